//! A waypoint for each Gateway of our classes: what it consists of, kept as it should be, and the Gateway's status.
//!
//! | module | what |
//! |---|---|
//! | `classes` | the GatewayClasses, which the controller makes itself |
//! | `gateway` | what a Gateway asks for, and what of it cannot be had |
//! | `parameters` | what the ConfigMap that it names changes |
//! | `attached` | how many routes name it as a parent |
//! | `present` | what there is of waypoints, as the API server tells |
//! | `apply` | whether that is as it should be |
//! | `maker` | making and repairing it |
//! | `status`, `refusal` | what is said of it |
//! | `settings` | what holds for all of them |
//!
//! What a waypoint consists of is in `deploy/waypoint/waypoint.yaml`. All of it is owned by the Gateway, with which it goes. An
//! object of the same name that is not the Gateway's is left alone, and the Gateway says so.
//!
//! The leader writes. Every replica knows where waypoints are, since these namespaces need the trust bundle.

mod apply;
mod attached;
mod classes;
mod gateway;
mod maker;
mod parameters;
mod present;
mod refusal;
mod settings;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use culvert_objects::{Kind, ObjectName, Objects};
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::model::OfGateway;
use crate::state::State;
use attached::Attached;
pub(in crate::cluster) use classes::CONTROLLER;
use classes::Class;
use gateway::Asked;
use maker::Maker;
use present::Present;
pub(crate) use settings::Settings;
use status::Progress;

/// How long changes are gathered before anything is written.
const GATHER: Duration = Duration::from_millis(100);
/// Before what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Before it is tried again to make the classes in a cluster that does not have the kind, or where another has them.
const CLASSES: Duration = Duration::from_secs(30);

/// Keeps waypoints as they should be while this replica leads.
pub(super) struct Waypoints {
    pub(super) client: Client,
    pub(super) settings: Settings,
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) leader: watch::Receiver<bool>,
    pub(super) stop: watch::Receiver<bool>,
    /// The namespaces that waypoints are in.
    pub(super) homes: watch::Sender<BTreeSet<String>>,
}

impl Waypoints {
    /// Until `stop` turns true.
    pub(super) async fn run(mut self) {
        let (sender, mut heard) = mpsc::channel(64);
        let following = present::follow(&self.client, &sender);
        let mut maker = Maker::new(self.client.clone(), self.settings.clone());
        let mut all = All::default();
        let mut again = None;
        loop {
            let retry = again.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                event = heard.recv() => match event {
                    Some(event) => all.present.take(event),
                    None => break,
                },
                changed = self.state.changed() => if changed.is_err() { break },
                changed = self.leader.changed() => if changed.is_err() { break },
                _ = self.stop.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep_until(retry) => {}
            }
            tokio::time::sleep(GATHER).await;
            while let Ok(event) = heard.try_recv() {
                all.present.take(event);
            }
            let state = Arc::clone(&self.state.borrow_and_update());
            if state.loaded.generation == 0 {
                continue;
            }
            all.update(&state.loaded.objects);
            all.refused.clone_from(&state.refused.gateways);
            self.homes.send_if_modified(|homes| {
                let now = all.homes();
                let changed = *homes != now;
                *homes = now;
                changed
            });
            let leads = *self.leader.borrow_and_update();
            again = None;
            if !leads {
                all.said.clear();
                all.classes = Classes::default();
            } else if all.present.is_complete() {
                let done = all.see_to(&mut maker, &self.settings, &self.leader).await;
                // Nobody tells of changes of parameters: they are read again.
                let asks_again = !done || all.asked.values().any(|asked| asked.parameters.is_some());
                let retry = asks_again.then(|| Instant::now() + RETRY);
                again = retry.into_iter().chain(all.classes.again).min();
            }
        }
        for task in following {
            task.abort();
        }
    }
}

/// All waypoints, as they are to be and as they are.
#[derive(Default)]
struct All {
    objects: Objects,
    asked: BTreeMap<ObjectName, Asked>,
    attached: Attached,
    present: Present,
    /// What the pods of each refuse.
    refused: BTreeMap<ObjectName, OfGateway>,
    /// What was written last into the status of each, and of what version of it.
    said: BTreeMap<ObjectName, (Asked, Progress)>,
    classes: Classes,
}

/// The classes that were made.
#[derive(Default)]
struct Classes {
    /// Of which version of each the status is written.
    said: BTreeMap<Class, i64>,
    /// When it is tried again to make one that is not there.
    again: Option<Instant>,
}

impl All {
    /// Takes a new state in.
    fn update(&mut self, now: &Objects) {
        for name in self.objects.changed(Kind::Gateway, now) {
            match now.gateways.get(&name).and_then(|gateway| Asked::of(gateway)) {
                Some(asked) => drop(self.asked.insert(name, asked)),
                None => {
                    self.asked.remove(&name);
                    self.said.remove(&name);
                }
            }
        }
        self.attached.update(now);
        self.objects = now.clone();
    }

    /// The namespaces of all waypoints.
    fn homes(&self) -> BTreeSet<String> {
        let served = self.asked.values().filter(|asked| asked.refusal.is_none());
        served.map(|asked| asked.name.namespace.to_string()).collect()
    }

    /// Makes, repairs and says what is to be. Whether nothing is left to be tried again.
    async fn see_to(&mut self, maker: &mut Maker, settings: &Settings, leader: &watch::Receiver<bool>) -> bool {
        self.see_to_classes(maker).await;
        let mut done = true;
        for asked in self.asked.values() {
            // Whoever has lost the lease in between does not go on.
            if !*leader.borrow() {
                return true;
            }
            if self.is_going(&asked.name.namespace) {
                continue;
            }
            let mut failed = match &asked.refusal {
                Some(_) => None,
                None => maker.make(asked, &mut self.present).await.err(),
            };
            let mut asked = asked.clone();
            // What is there by parameters of before stays.
            if failed
                .as_ref()
                .is_some_and(|failed| failed.reason == parameters::INVALID)
            {
                asked.refusal = failed.take();
                done = false;
            }
            let asked = &asked;
            done &= failed.is_none();
            let progress = Progress {
                failed,
                available: maker::available(asked, &self.present),
                attached: self.attached.to(&asked.name),
                refused: self.refused.get(&asked.name).cloned(),
            };
            let now = (asked.clone(), progress);
            let before = self.said.get(&asked.name);
            if before == Some(&now) {
                continue;
            }
            let told_before = before.and_then(|(_, before)| before.failed.as_ref());
            if let Some(failed) = now.1.failed.as_ref().filter(|failed| told_before != Some(failed)) {
                tracing::warn!(gateway = %asked.name, why = failed.message, "a waypoint cannot be made");
            }
            match maker.say(asked, &now.1, &settings.cluster_domain).await {
                Ok(()) => drop(self.said.insert(asked.name.clone(), now)),
                Err(error) => {
                    tracing::debug!(error, gateway = %asked.name, "its status could not be written");
                    done = false;
                }
            }
        }
        done
    }

    /// The same for the classes.
    async fn see_to_classes(&mut self, maker: &Maker) {
        if self.classes.again.is_some_and(|again| Instant::now() < again) {
            return;
        }
        self.classes.again = None;
        for class in Class::ALL {
            let there = self.objects.gateway_classes.get(&ObjectName::cluster(class.name()));
            let generation = there.and_then(|there| there.generation);
            if generation.is_some() && self.classes.said.get(&class) == generation.as_ref() {
                continue;
            }
            let made = maker.class(class, there.map(|there| &*there.spec)).await;
            if let Ok(Some(generation)) = made {
                self.classes.said.insert(class, generation);
                continue;
            }
            self.classes.again = Some(Instant::now() + CLASSES);
            if let Err(error) = made {
                tracing::warn!(error, class = class.name(), "the GatewayClass cannot be made");
            }
        }
    }

    /// Whether a namespace is being deleted: nothing can be made there.
    fn is_going(&self, namespace: &str) -> bool {
        let namespace = self.objects.namespace(namespace);
        namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }
}
