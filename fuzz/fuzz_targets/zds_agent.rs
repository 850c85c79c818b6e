//! What the agent reads on its socket: a proxy's hello, and its answers.
//!
//! Over a real socket, with the agent's own server. A message is a length of two bytes and so many bytes; the first is the hello,
//! each other one is sent when the agent has asked something. Whatever is said, the agent closes in time.
#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use culvert_agent::handover::{Event, Order, server::Server};
use culvert_net::packet::{AsyncPacketSocket, PacketSocket};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// Far below the agent's own limits: nothing of what is sent here is a reason to wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many things each proxy is asked.
const ORDERS: u32 = 3;

struct Agent {
    runtime: Runtime,
    path: std::path::PathBuf,
    events: UnboundedReceiver<Event>,
}

impl Agent {
    fn start() -> Self {
        let path = std::env::temp_dir().join(format!("culvert-fuzz-{}.sock", std::process::id()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (sender, events) = unbounded_channel();
        let guard = runtime.enter();
        let server = Server::bind(&path).expect("a socket");
        runtime.spawn(server.run(sender));
        drop(guard);
        Self { runtime, path, events }
    }

    fn hear(&mut self, messages: &[&[u8]]) {
        let (path, events) = (&self.path, &mut self.events);
        self.runtime.block_on(async {
            let socket = PacketSocket::connect(path).expect("the agent listens");
            let ours = AsyncPacketSocket::new(socket).expect("register");
            let mut messages = messages.iter();
            let (mut buffer, mut known, mut orders) = (Vec::new(), None, 0);
            let Some(hello) = messages.next() else { return };
            ours.send(hello, &[]).await.expect("it waits for the hello");
            loop {
                let said = timeout(PATIENCE, async {
                    tokio::select! {
                        biased;
                        received = ours.recv(&mut buffer) => received.ok().flatten().is_some(),
                        event = events.recv() => {
                            match event {
                                Some(Event::Connected(proxy)) => {
                                    let uid: std::sync::Arc<str> = "uid".into();
                                    for order in [Order::Keep(uid.clone()), Order::Remove(uid), Order::SnapshotSent] {
                                        proxy.tell(order);
                                    }
                                    known = Some(proxy);
                                }
                                Some(Event::Disconnected(_)) => known = None,
                                _ => {}
                            }
                            true
                        }
                    }
                });
                if !said.await.expect("the agent answers or closes") {
                    break;
                }
                if buffer.is_empty() {
                    continue; // an event alone
                }
                buffer.clear();
                orders += 1;
                let Some(answer) = messages.next() else { break };
                if ours.send(answer, &[]).await.is_err() {
                    break;
                }
                if orders == ORDERS {
                    // It has no more to ask, and what it did not ask for ends the connection.
                    let Some(unasked) = messages.next() else { break };
                    let _ = ours.send(unasked, &[]).await;
                }
            }
            drop(ours);
            while let Some(proxy) = &known {
                let event = timeout(PATIENCE, events.recv())
                    .await
                    .expect("the agent notices that the proxy has gone");
                if matches!(event, Some(Event::Disconnected(id)) if id == proxy.id) {
                    known = None;
                }
            }
        });
    }
}

thread_local! {
    static AGENT: RefCell<Agent> = RefCell::new(Agent::start());
}

fuzz_target!(|input: &[u8]| {
    let (mut messages, mut rest) = (Vec::new(), input);
    while let [low, high, more @ ..] = rest {
        let (message, after) = more.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(more.len()));
        rest = after;
        // Nothing at all is the end of a connection.
        if !message.is_empty() {
            messages.push(message);
        }
    }
    AGENT.with_borrow_mut(|agent| agent.hear(&messages));
});
