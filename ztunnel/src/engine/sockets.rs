//! The stock of unconnected sockets in each pod's network namespace.
//!
//! The loop holds no capability, so it cannot enter a pod. The monitor can, and makes sockets there in batches. A
//! connection that finds the stock empty waits for the next batch.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::IpAddr,
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use culvert_state::{Binding, Mesh, Pod};
use culvert_tunnel::admission::{Bucket, Rate};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    headers,
    keys::{FlowKey, TunnelKey},
};
use crate::{seam::ListenerRole, wire::BATCH};

/// Sockets kept per pod and loop at first. An unconnected one costs the kernel about 3 KiB.
const FIRST_TARGET: u32 = 16;

/// Sockets kept at most, for pods that open connections in bursts.
const LAST_TARGET: u32 = 512;

/// Sockets kept while the process may open hardly any more descriptors.
const SCARCE_TARGET: u32 = 4;

/// How quickly a pod may ask for addresses, and how many questions of its are remembered: as many as it has connections
/// that wait, within reason.
const QUESTIONS: Rate = Rate {
    per_second: 50,
    burst: 200,
};
const MAX_QUESTIONS: usize = 4096;

/// A pod as one loop sees it. Flows and tunnels hold it, so that it outlives the pod's removal as long as they need.
#[derive(Debug)]
pub(super) struct LocalPod {
    pub(super) pod: Arc<Pod>,
    /// Ports of our own listeners in the pod: a connection that ends there would come back to us.
    pub(super) own_ports: Vec<(ListenerRole, u16)>,
    stock: Rc<RefCell<Stock>>,
    /// The `baggage` header and the mesh's generation that it was made from.
    baggage: RefCell<(u64, Rc<str>)>,
    /// What decided about its open connections when they were last looked at.
    binding: RefCell<Option<Binding>>,
    questions: RefCell<Questions>,
    /// Whether its DNS queries come to this proxy.
    pub(super) resolves: bool,
    /// Its DNS queries that wait for an answer.
    pub(super) queries: Cell<u32>,
}

/// A pod's share in asking the controller: one that scans ranges must not use up what others need.
#[derive(Debug, Default)]
struct Questions {
    bucket: Option<Bucket>,
    /// Asked too quickly.
    waiting: VecDeque<Question>,
}

/// What the controller is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Address(IpAddr),
    /// In lower case.
    Host(Arc<str>),
}

/// Who waits for a socket.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiter {
    /// To connect to an application or a destination outside the mesh.
    Flow(FlowKey),
    /// To connect to a peer's tunnel port.
    Tunnel(TunnelKey),
}

#[derive(Debug)]
struct Stock {
    sockets: Vec<OwnedFd>,
    waiting: VecDeque<Waiter>,
    /// Asked for and not yet there, request by request.
    expected: VecDeque<u32>,
    /// How many to have after asking.
    target: u32,
    /// Loops among which each batch is divided.
    loops: u32,
}

impl LocalPod {
    /// A pod that this loop meets first, or meets again with changes: `before` passes its stock on.
    pub(super) fn new(pod: Arc<Pod>, own_ports: Vec<(ListenerRole, u16)>, before: Option<&Self>) -> Self {
        let stock = before.map_or_else(
            || {
                Rc::new(RefCell::new(Stock {
                    sockets: Vec::new(),
                    waiting: VecDeque::new(),
                    expected: VecDeque::new(),
                    target: FIRST_TARGET,
                    loops: 1,
                }))
            },
            |before| Rc::clone(&before.stock),
        );
        Self {
            pod,
            own_ports,
            stock,
            baggage: RefCell::new((u64::MAX, "".into())),
            binding: RefCell::default(),
            questions: RefCell::default(),
            resolves: false,
            queries: Cell::new(0),
        }
    }

    /// Says among how many loops the sockets that are asked for are divided.
    #[must_use]
    pub(super) fn among(self, loops: usize) -> Self {
        self.stock.borrow_mut().loops = loops as u32;
        self
    }

    /// Says whether its DNS queries come to this proxy.
    #[must_use]
    pub(super) fn with_dns(self, resolves: bool) -> Self {
        Self { resolves, ..self }
    }

    /// Whether other policies bind the pod than at the last call.
    pub(super) fn is_bound_anew(&self, mesh: &Mesh) -> bool {
        let binding = Some(mesh.binding(&self.pod));
        self.binding.replace(binding.clone()) != binding
    }

    /// The question, if the controller is to be asked now. If not, it is remembered.
    pub(super) fn may_ask(&self, question: Question, now: Instant) -> Option<Question> {
        let mut questions = self.questions.borrow_mut();
        let may = questions
            .bucket
            .get_or_insert_with(|| Bucket::full(QUESTIONS, now))
            .take(QUESTIONS, now);
        if may {
            return Some(question);
        }
        if questions.waiting.len() < MAX_QUESTIONS {
            questions.waiting.push_back(question);
        }
        None
    }

    /// Whether to ask the controller about so many names now. If not, they are the pod's resolver's to know: a query does not wait.
    pub(super) fn may_ask_for_names(&self, count: usize, now: Instant) -> bool {
        let mut questions = self.questions.borrow_mut();
        let bucket = questions.bucket.get_or_insert_with(|| Bucket::full(QUESTIONS, now));
        (0..count).all(|_| bucket.take(QUESTIONS, now))
    }

    /// A question that was remembered, if the pod may ask another. Those to which nobody waits for an answer are dropped.
    pub(super) fn next_question(&self, is_awaited: impl Fn(&Question) -> bool, now: Instant) -> Option<Question> {
        let mut questions = self.questions.borrow_mut();
        while questions.waiting.front().is_some_and(|question| !is_awaited(question)) {
            questions.waiting.pop_front();
        }
        let may = questions
            .bucket
            .as_mut()
            .is_none_or(|bucket| bucket.has_token(QUESTIONS, now));
        if !may {
            return None;
        }
        let next = questions.waiting.pop_front()?;
        if let Some(bucket) = &mut questions.bucket {
            bucket.take(QUESTIONS, now);
        }
        Some(next)
    }

    pub(super) fn has_questions(&self) -> bool {
        !self.questions.borrow().waiting.is_empty()
    }

    /// What the pod says about itself to HBONE peers.
    pub(super) fn baggage(&self, mesh: &Mesh) -> Rc<str> {
        let mut cached = self.baggage.borrow_mut();
        if cached.0 != mesh.generation() {
            let workload = self
                .pod
                .addresses
                .first()
                .and_then(|address| mesh.workload_at(*address));
            *cached = (
                mesh.generation(),
                workload.map_or_else(String::new, |it| headers::baggage(&it)).into(),
            );
        }
        Rc::clone(&cached.1)
    }

    /// A socket, or a place in the queue for one.
    pub(super) fn take_socket(&self, waiter: Waiter, requests: &UnboundedSender<(Arc<str>, u32)>) -> Option<OwnedFd> {
        let mut stock = self.stock.borrow_mut();
        let socket = stock.sockets.pop();
        if socket.is_none() {
            stock.waiting.push_back(waiter);
            stock.target = (stock.target * 2).min(LAST_TARGET);
        }
        self.ask(&mut stock, requests);
        socket
    }

    /// Asks for sockets when there are few.
    pub(super) fn refill(&self, requests: &UnboundedSender<(Arc<str>, u32)>) {
        self.ask(&mut self.stock.borrow_mut(), requests);
    }

    fn ask(&self, stock: &mut Stock, requests: &UnboundedSender<(Arc<str>, u32)>) {
        let expected: u32 = stock.expected.iter().sum();
        let coming = stock.sockets.len() + expected as usize;
        let wanted = stock.waiting.len() + stock.target as usize;
        // Less than half of what should be there; those who wait count whole.
        if coming < stock.waiting.len() + stock.target as usize / 2 {
            let count = (wanted - coming) as u32;
            stock.expected.push_back(count);
            // Fails only when the worker is ending.
            let _ = requests.send((Arc::clone(&self.pod.uid), count));
        }
    }

    /// Takes in a batch. Returns those who waited, with their sockets.
    pub(super) fn add_sockets(
        &self,
        batch: Vec<OwnedFd>,
        requests: &UnboundedSender<(Arc<str>, u32)>,
    ) -> Vec<(Waiter, OwnedFd)> {
        let mut stock = self.stock.borrow_mut();
        // Requests are answered in turn, each in full batches but for the last, or with fewer than it asked for. With several loops,
        // to each comes a share of what was made, whoever asked: an expectation may end too early, but none stays for ever. What
        // is far too much is closed.
        let made = batch.len() as u32 * stock.loops;
        if let Some(first) = stock.expected.front_mut() {
            *first = first.saturating_sub(made);
            if *first == 0 || made < BATCH {
                stock.expected.pop_front();
            }
        }
        stock.sockets.extend(batch);
        let ready = stock.waiting.len().min(stock.sockets.len());
        let rest = stock.sockets.len() - ready;
        let sockets = stock.sockets.split_off(rest);
        let most = 2 * stock.target as usize;
        stock.sockets.truncate(most);
        let served = stock.waiting.drain(..ready).zip(sockets).collect();
        self.ask(&mut stock, requests);
        served
    }

    /// The regular look: if someone still waits, whoever was asked may have been replaced, or had fewer to give, so asks again.
    pub(super) fn ask_again(&self, requests: &UnboundedSender<(Arc<str>, u32)>) {
        let mut stock = self.stock.borrow_mut();
        if stock.sockets.is_empty() || !stock.waiting.is_empty() {
            stock.expected.clear();
        }
        self.ask(&mut stock, requests);
    }

    /// Closes what is more than a few, because others need the descriptors.
    pub(super) fn shrink(&self) {
        let mut stock = self.stock.borrow_mut();
        stock.target = SCARCE_TARGET;
        stock.sockets.truncate(SCARCE_TARGET as usize);
    }

    /// Puts back a socket that was not used, or returns it with who waits for one: in the stock it would count as one that
    /// whoever waits is to get.
    pub(super) fn return_socket(&self, socket: OwnedFd) -> Option<(Waiter, OwnedFd)> {
        let mut stock = self.stock.borrow_mut();
        if let Some(waiter) = stock.waiting.pop_front() {
            return Some((waiter, socket));
        }
        stock.sockets.push(socket);
        None
    }

    /// Whether a connection to this port of the pod would come back to this proxy.
    pub(super) fn is_own_port(&self, port: u16) -> bool {
        self.own_ports.iter().any(|(_, own)| *own == port)
    }
}

#[cfg(test)]
mod tests {
    use culvert_identity::SpiffeId;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    fn pod() -> LocalPod {
        let pod = Pod {
            uid: "uid".into(),
            name: "cart".into(),
            namespace: "shop".into(),
            identity: SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/cart").unwrap(),
            addresses: Vec::new(),
            node: "node-a".into(),
        };
        LocalPod::new(Arc::new(pod), Vec::new(), None)
    }

    #[test]
    fn a_pods_questions_about_names_and_addresses_have_one_share() {
        let (pod, now) = (pod(), Instant::now());
        let question = Question::Address([198, 18, 0, 1].into());
        for number in 0..QUESTIONS.burst {
            let may = match number % 2 {
                0 => pod.may_ask_for_names(1, now),
                _ => pod.may_ask(question.clone(), now).is_some(),
            };
            assert!(may, "{number}");
        }
        assert!(!pod.may_ask_for_names(1, now));
        assert!(pod.may_ask(question.clone(), now).is_none());
        let host = Question::Host("way.shop.svc.cluster.local".into());
        assert!(pod.may_ask(host.clone(), now).is_none());
        let later = now + std::time::Duration::from_secs(1);
        assert!(!pod.may_ask_for_names(QUESTIONS.per_second as usize + 1, later));
        let later = later + std::time::Duration::from_secs(1);
        assert!(pod.may_ask_for_names(1, later));
        // What was asked too quickly is asked later, unless nobody waits for it any more.
        assert_eq!(pod.next_question(|question| *question == host, later), Some(host));
        assert!(!pod.has_questions());
    }

    /// Several wait, one socket comes, and who gets it does not want it any more.
    #[test]
    fn a_socket_that_is_not_wanted_any_more_goes_to_the_next_who_waits_and_nobody_waits_for_one_that_never_comes() {
        let pod = pod();
        let (requests, mut requested) = unbounded_channel();
        let waiter = |index| Waiter::Flow(FlowKey::new(index, 0));
        for index in 0..3 {
            assert!(pod.take_socket(waiter(index), &requests).is_none());
        }
        let mut served = pod.add_sockets(vec![descriptor()], &requests);
        let (_, socket) = served.pop().unwrap();
        let (second, _) = pod.return_socket(socket).unwrap();
        assert!(matches!(second, Waiter::Flow(key) if key == FlowKey::new(1, 0)));
        // What was asked for meanwhile does not come: the next look asks for as many as wait, and more.
        while requested.try_recv().is_ok() {}
        pod.ask_again(&requests);
        assert!(requested.try_recv().is_ok_and(|(_, count)| count >= 1));
        assert_eq!(pod.add_sockets(vec![descriptor()], &requests).len(), 1);
        assert!(pod.return_socket(descriptor()).is_none());
    }

    #[test]
    fn a_burst_is_served_however_small_the_batches() {
        let pod = pod();
        let (requests, mut requested) = unbounded_channel();
        for index in 0..2000 {
            assert!(
                pod.take_socket(Waiter::Flow(FlowKey::new(index, 0)), &requests)
                    .is_none()
            );
        }
        let mut served = 0;
        while let Ok((_, count)) = requested.try_recv() {
            let batch = (0..count.min(10)).map(|_| descriptor()).collect();
            served += pod.add_sockets(batch, &requests).len();
        }
        assert_eq!(served, 2000);
        // Enough is there for the next burst, and not without limit.
        let stock = pod.stock.borrow().sockets.len();
        assert!((1..=2 * LAST_TARGET as usize).contains(&stock), "{stock}");
    }

    /// What was asked for comes in several batches.
    #[test]
    fn a_burst_asks_once_for_what_it_needs() {
        let pod = pod();
        let (requests, mut requested) = unbounded_channel();
        for index in 0..500 {
            pod.take_socket(Waiter::Flow(FlowKey::new(index, 0)), &requests);
        }
        let mut asked = 0;
        while let Ok((_, count)) = requested.try_recv() {
            asked += count;
            let mut left = count;
            while left > 0 {
                let batch = left.min(BATCH);
                left -= batch;
                pod.add_sockets((0..batch).map(|_| descriptor()).collect(), &requests);
            }
        }
        assert!((500..=500 + LAST_TARGET).contains(&asked), "{asked}");
    }

    fn descriptor() -> OwnedFd {
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap()
    }
}
