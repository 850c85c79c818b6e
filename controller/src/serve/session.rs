//! One stream's task: it runs the state machine of `culvert_xds` over the newest state.
//!
//! It sleeps until its client says something or a change concerns it. What it looks at it looks at in turns, so that a client
//! that holds much holds up nobody: in between, others run, and pings are answered.

use std::pin::pin;
use std::sync::Arc;

use culvert_envoy::{ENDPOINT_TYPE, SECRET_TYPE};
use culvert_proto::ROOTS_TYPE;
use culvert_proto::discovery::DeltaDiscoveryRequest;
use culvert_xds::server::{Meaning, Response, Stream, Turn};
use culvert_xds::{Interest, Key};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;
use tonic::Status;

use super::callers::Guard;
use super::placement::BEHIND;
use super::roots::Roots;
use super::secrets::Secrets;
use super::shared::Shared;
use super::streams::Place;
use super::translation::Requests;
use super::view::{CallerView, Own, woken_by};
use crate::authority::{Caller, Source};
use crate::refusals::{Answers, Refuser};
use crate::snapshot::PROXY_TYPE;
use crate::state::State;

/// Names that one client may ask for, resources that it may hold, and their length: all far above what a node's pods can
/// talk to, and what a mesh has.
const MAX_NAMES: usize = 50_000;
const MAX_HELD: usize = 400_000;
const MAX_NAME: usize = 1024;

/// How many names are looked at in one turn: less than a millisecond.
const TURN: usize = 256;

pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which also means to stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// When this comes; never without it.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

pub(super) struct Session {
    caller: Caller,
    stream: Stream,
    shared: Shared,
    roots: Roots,
    secrets: Secrets,
    /// When the caller's certificate is to be made anew, once it was asked for.
    renewal: Option<Instant>,
    /// The scope of the waypoint that the caller is of, if it is of one.
    waypoint: Option<Arc<str>>,
    /// Where the caller was when it was looked at last.
    seen_from: Option<u64>,
    place: Place,
    guard: Guard,
    /// What was sent last of each type, until the caller answers it.
    answers: Answers,
    /// None before it is known what the caller is.
    refuser: Option<Refuser>,
    responses: mpsc::Sender<Result<Response, Status>>,
    end: Instant,
}

impl Session {
    /// A stream of `caller` that ends at `end`.
    pub(super) fn open(
        mut shared: Shared,
        caller: Caller,
        source: Source,
        responses: mpsc::Sender<Result<Response, Status>>,
        end: Instant,
    ) -> Self {
        let roots = Roots::new(&shared.roots.borrow_and_update());
        Self {
            stream: Stream::new(),
            roots,
            secrets: Secrets::default(),
            renewal: None,
            waypoint: None,
            seen_from: None,
            place: shared.streams.open(),
            guard: shared.callers.open(&caller, source),
            answers: Answers::default(),
            refuser: None,
            shared,
            caller,
            responses,
            end,
        }
    }

    /// Until the client goes, its time is over, or the controller stops.
    pub(super) async fn run(mut self, mut requests: Requests) {
        self.shared.metrics.streams.inc();
        self.find_waypoint().await;
        self.refuser = Some(self.shared.refusals.of(&self.caller, self.waypoint.as_ref()));
        tracing::info!(caller = %self.caller, waypoint = self.waypoint.as_deref(), "a stream begins");
        let mut signer = self.shared.secrets.authority.signer();
        let mut end = pin!(tokio::time::sleep_until(self.end));
        let why = loop {
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => if let Err(status) = self.take(&request) {
                        break self.refuse(status).await;
                    },
                    Ok(None) => break "the client ended it".to_owned(),
                    Err(status) => break status.to_string(),
                },
                () = self.place.arrived() => if self.look() {
                    break "it is of another waypoint: the client connects again".to_owned();
                },
                // The authority outlives all streams.
                _ = self.shared.roots.changed() => {
                    self.roots = Roots::new(&self.shared.roots.borrow_and_update());
                    self.stream.touch_all(Some(ROOTS_TYPE));
                    self.secrets.set_roots(&self.roots);
                    self.stream.touch_all(Some(SECRET_TYPE));
                }
                () = at(self.renewal) => self.make_certificate(),
                // The authority outlives all streams.
                _ = signer.changed(), if self.renewal.is_some() => self.make_certificate(),
                () = &mut end => break "its time is over: the client connects again".to_owned(),
                () = self.guard.superseded() => {
                    break self.refuse(Status::resource_exhausted("this caller has opened too many streams")).await;
                }
                () = stopped(&mut self.shared.stop) => {
                    break self.refuse(Status::unavailable("the controller stops")).await;
                },
                () = self.responses.closed() => break "the client is gone".to_owned(),
            }
            if !self.answer().await {
                break "the client is gone".to_owned();
            }
        };
        let interest = self
            .stream
            .end()
            .map(|interest| woken_by(interest, self.waypoint.as_ref()));
        self.place.apply(interest.chain(self.own_proxy(false)));
        self.shared.metrics.streams.dec();
        tracing::info!(caller = %self.caller, why, "a stream ended");
    }

    async fn refuse(&self, status: Status) -> String {
        let why = status.to_string();
        let _ = self.responses.send(Err(status)).await;
        why
    }

    /// Takes a request in. An error ends the stream.
    fn take(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Status> {
        let type_url = request.type_url.as_str();
        let (asked, held) = (&request.resource_names_subscribe, &request.initial_resource_versions);
        let is_long = asked.iter().chain(held.keys()).any(|name| name.len() > MAX_NAME);
        if is_long || asked.len() > MAX_NAMES || held.len() > MAX_HELD {
            return Err(Status::resource_exhausted("names are too many or too long"));
        }
        if let Some(client) = &request.node {
            self.guard.name(&client.id);
        }
        if let Some(refuser) = &self.refuser {
            self.answers.answered(request, refuser);
        }
        let state = Arc::clone(&self.shared.state.borrow());
        if self.waypoint.is_some() && type_url == SECRET_TYPE && self.renewal.is_none() {
            self.secrets.set_roots(&self.roots);
            self.make_certificate();
        }
        let own = Own {
            roots: &self.roots,
            secrets: &self.secrets,
            waypoint: self.waypoint.as_ref(),
        };
        let view = CallerView::new(&self.caller, &state.snapshot, own);
        match self.stream.receive(request, &view) {
            Meaning::Subscribed | Meaning::Stale => {}
            Meaning::Acknowledged => {
                self.guard
                    .note(type_url, |p| p.acknowledged.clone_from(&request.response_nonce));
            }
            Meaning::Refused { reason } => {
                tracing::warn!(caller = %self.caller, type_url, reason, "a client refused a response");
                self.shared.metrics.refused(type_url);
                self.guard.note(type_url, |p| {
                    p.refused += 1;
                    p.reason = Some(reason);
                });
            }
            Meaning::UnknownType => {
                tracing::warn!(caller = %self.caller, type_url, "a client asks for a type that it is not served");
                return Ok(());
            }
        }
        let wanted = self.stream.wanted(type_url);
        if wanted > MAX_NAMES {
            return Err(Status::resource_exhausted(format!(
                "more than {MAX_NAMES} names are subscribed"
            )));
        }
        self.guard.note(type_url, |p| p.wanted = wanted);
        let _ = self.register(&state);
        Ok(())
    }

    /// Takes note of the changes that have arrived. Whether the caller is of another waypoint now.
    fn look(&mut self) -> bool {
        let waiting = self.place.take();
        if waiting.all {
            self.stream.touch_all(None);
        }
        for (batch, at) in waiting.changes {
            self.stream.touch(&batch[at]);
        }
        let seen_from = self.seen_from_now();
        if self.seen_from != seen_from {
            self.seen_from = seen_from;
            self.stream.touch_all(Some(ENDPOINT_TYPE));
        }
        self.waypoint != self.waypoint_now()
    }

    /// Finds out which waypoint the caller is of, and has changes of that wake the stream. Waits a moment for what the API server
    /// knew before the controller: a pod that has just been made.
    async fn find_waypoint(&mut self) {
        let Caller::Workload {
            namespace,
            pod: Some(pod),
            ..
        } = &self.caller
        else {
            return;
        };
        let mut states = self.shared.state.clone();
        let is_known = states.wait_for(|state| state.loaded.objects.pod(namespace, pod).is_some());
        // In vain: then it is of none, as long as nothing else is heard of it.
        let _ = tokio::time::timeout(BEHIND, is_known).await;
        self.place.apply(self.own_proxy(true));
        self.waypoint = self.waypoint_now();
        self.seen_from = self.seen_from_now();
    }

    /// What tells the caller's place from others, where it is a waypoint's pod.
    fn seen_from_now(&self) -> Option<u64> {
        let state = self.shared.state.borrow();
        state.snapshot.version(PROXY_TYPE, &self.caller.pod_name()?)
    }

    fn waypoint_now(&self) -> Option<Arc<str>> {
        let state = self.shared.state.borrow();
        state.snapshot.scope(PROXY_TYPE, &self.caller.pod_name()?).cloned()
    }

    /// The interest in what says which waypoint the caller is of.
    fn own_proxy(&self, wanted: bool) -> Option<Interest> {
        let name = self.caller.pod_name()?;
        Some(Interest {
            type_url: PROXY_TYPE,
            key: Key::Name(name.into()),
            wanted,
        })
    }

    /// Makes the caller's certificate anew.
    fn make_certificate(&mut self) {
        let after = self.secrets.make_certificate(&self.shared.secrets, &self.caller);
        self.renewal = Some(Instant::now() + after);
        self.stream.touch_all(Some(SECRET_TYPE));
    }

    /// Lets the index know what the client is interested in by now. Changes may have been missed of names that were looked up
    /// in `state` before the index knew them: those are to be looked at again. Whether there are any.
    fn register(&mut self, state: &Arc<State>) -> bool {
        let interest = self.stream.take_interest();
        if interest.is_empty() {
            return false;
        }
        let woken_by = |interest: &Interest| woken_by(interest.clone(), self.waypoint.as_ref());
        self.place.apply(interest.iter().map(woken_by));
        if Arc::ptr_eq(state, &self.shared.state.borrow()) {
            return false;
        }
        let wanted = interest.iter().filter(|interest| interest.wanted);
        let mut missed = false;
        for interest in wanted {
            self.stream.touch_key(interest);
            missed = true;
        }
        missed
    }

    /// Sends all that is due. False when the client is gone.
    async fn answer(&mut self) -> bool {
        let mut large: Option<OwnedSemaphorePermit> = None;
        loop {
            let state = Arc::clone(&self.shared.state.borrow());
            // One response is made of one state, however many turns it takes.
            let turn = loop {
                let own = Own {
                    roots: &self.roots,
                    secrets: &self.secrets,
                    waypoint: self.waypoint.as_ref(),
                };
                let view = CallerView::new(&self.caller, &state.snapshot, own);
                match self.stream.advance(&view, TURN) {
                    Turn::More => {
                        if large.is_none() {
                            // Never closed.
                            large = Arc::clone(&self.shared.large).acquire_owned().await.ok();
                        }
                        tokio::task::yield_now().await;
                    }
                    turn => break turn,
                }
            };
            let missed = self.register(&state);
            let response = match turn {
                Turn::Send(response) => response,
                Turn::Done | Turn::More if missed => continue,
                Turn::Done | Turn::More => return true,
            };
            let (resources, removed) = (response.resources.len(), response.removed.len());
            let type_url = response.type_url;
            self.shared.metrics.sent(type_url, resources, removed);
            tracing::debug!(caller = %self.caller, type_url, resources, removed, "response");
            let (held, missing) = (self.stream.held(type_url), self.stream.missing(type_url));
            self.guard.note(type_url, |p| {
                p.held = held;
                p.missing = missing;
                p.sent.clone_from(&response.nonce);
            });
            self.answers.sent(&response);
            if self.responses.send(Ok(response)).await.is_err() {
                return false;
            }
        }
    }
}
