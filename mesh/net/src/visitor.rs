//! A thread that goes into network namespaces for others.

use std::{io, os::fd::AsFd as _, sync::mpsc, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::netns::{NetError, Netns};

/// Something to do in a namespace. The thread comes back from it with whether it could enter.
struct Errand {
    netns: Netns,
    work: Box<dyn FnOnce(Result<(), NetError>) + Send>,
}

/// A thread that enters network namespaces, one after the other, for those who often have something to do there: with a thread
/// for each time ([`Netns::run`]), starting and ending it costs more than making some sockets. Between two errands it is where it
/// began, so that it keeps no namespace alive.
#[derive(Debug)]
pub struct Visitor {
    errands: mpsc::Sender<Errand>,
}

impl Visitor {
    /// Starts the thread. It ends with this value.
    ///
    /// # Errors
    /// The thread cannot be started, or `/proc` is not mounted.
    pub fn start() -> Result<Self, NetError> {
        let home = Netns::current()?;
        let (errands, received) = mpsc::channel();
        thread::Builder::new()
            .name("netns".into())
            .spawn(move || visit(&home, &received))
            .map_err(NetError::Thread)?;
        Ok(Self { errands })
    }

    /// Runs `work` inside the namespace and waits for it. Sockets made there stay in the namespace wherever they are used later.
    ///
    /// # Errors
    /// The namespace cannot be entered; or the thread has ended, because `work` panicked once or it could not go back.
    pub fn run<T: Send + 'static>(
        &self,
        netns: &Netns,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NetError> {
        let (done, outcome) = mpsc::sync_channel(1);
        let errand = Errand {
            netns: netns.try_clone().map_err(NetError::Examine)?,
            // Fails only where nobody waits any more.
            work: Box::new(move |entered| drop(done.send(entered.map(|()| work())))),
        };
        let ended = || NetError::Thread(io::Error::other("it has ended"));
        self.errands.send(errand).map_err(|_| ended())?;
        outcome.recv().map_err(|_| ended())?
    }
}

fn visit(home: &Netns, errands: &mpsc::Receiver<Errand>) {
    for Errand { netns, work } in errands {
        let entered = enter(&netns);
        let is_away = entered.is_ok();
        work(entered);
        if is_away && enter(home).is_err() {
            return;
        }
    }
}

fn enter(netns: &Netns) -> Result<(), NetError> {
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| NetError::Enter(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::tests::fresh;

    fn inode() -> u64 {
        Netns::current().expect("proc is mounted").inode().expect("inode")
    }

    #[test]
    fn each_errand_is_done_in_its_namespace_and_between_them_the_thread_is_at_home() {
        let visitor = Visitor::start().expect("start");
        let (one, two, here) = (fresh(), fresh(), inode());
        for netns in [&one, &two, &one] {
            assert_eq!(visitor.run(netns, inode).expect("enter"), netns.inode().expect("inode"));
            let (told, home) = mpsc::channel();
            let errand = Errand {
                netns: Netns::from_fd(std::fs::File::open("/proc/self/ns/net").expect("open").into()).expect("netns"),
                work: Box::new(move |_| told.send(inode()).expect("heard")),
            };
            visitor.errands.send(errand).expect("the thread is there");
            assert_eq!(home.recv().expect("told"), here);
        }
    }

    #[test]
    fn a_thread_that_a_panic_ended_is_noticed() {
        let visitor = Visitor::start().expect("start");
        let here = Netns::current().expect("proc is mounted");
        assert!(visitor.run(&here, || panic!("on purpose")).is_err());
        assert!(visitor.run(&here, || ()).is_err());
    }
}
