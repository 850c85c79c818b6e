//! Questions of the proxy's own about names of endpoints: sent from inside the pod that dials them, to its resolvers.

use std::rc::Rc;

use culvert_dns::{Ended, NameQuery};

use super::{
    flow::Phase,
    loop_state::{Loop, Todo},
    resolvers::{Asker, From},
    timer::Due,
};

impl Loop {
    /// Does what follows from what was asked for or answered: sends queries, and goes on with connections.
    pub(super) fn follow_names(&mut self) {
        for query in self.names.take_queries() {
            self.ask_resolver(&query);
        }
        for ended in self.names.take_ended() {
            self.report_name(&ended);
        }
        for key in self.names.take_woken() {
            if self.flows.get(key).is_some_and(|flow| flow.phase == Phase::Naming) {
                self.resolve(key);
            }
        }
        if let Some(at) = self.names.next_deadline()
            && !std::mem::replace(&mut self.naming, true)
        {
            self.timers.set(at, Due::Names);
        }
    }

    fn ask_resolver(&mut self, query: &NameQuery) {
        let pod = self.pods.get(&query.pod).map(Rc::clone);
        let asker = Asker::new(&query.message, From::Name(query.part), self.now);
        let (Some(pod), Some(asker)) = (pod, asker) else {
            self.names.refused(query.part, self.now);
            return self.todo.push_back(Todo::Names);
        };
        let lane = self.resolvers.own(&pod, self.now);
        self.pass_on(lane, query.resolver, &query.message, asker);
    }

    fn report_name(&mut self, ended: &Ended) {
        let outcome = match &ended.outcome {
            Ok(_) => "resolved",
            Err(error) => error.outcome(),
        };
        let resolutions = &self.shared.telemetry.dns().resolutions;
        resolutions.get_or_create(&[("outcome", outcome)]).inc();
        let Ended {
            pod, host, is_stale, ..
        } = ended;
        match &ended.outcome {
            Ok(addresses) => tracing::debug!(%pod, %host, addresses, "resolved the name of an endpoint"),
            Err(error) => {
                if let Some(passed_over) = self.unresolved.line(self.now) {
                    tracing::warn!(%pod, %host, %error, is_stale, passed_over, "cannot resolve the name of an endpoint");
                }
            }
        }
    }

    /// Resolvers have had their time.
    pub(super) fn names_are_late(&mut self) {
        self.naming = false;
        self.names.expire(self.now);
        self.todo.push_back(Todo::Names);
    }

    /// Forgets names that nobody uses, and shows the others.
    pub(super) fn sweep_names(&mut self) {
        self.names.sweep(self.now);
        self.shared.names.show(self.number, self.names.views(self.now));
    }
}
