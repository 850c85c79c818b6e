//! A thin layer over epoll: which of my sockets are ready?

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

/// A set of sockets to wait for, each under a number of the caller's choosing.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(256),
        })
    }

    /// Waits until the socket can be read.
    pub(crate) fn add_readable(&self, socket: impl AsFd, number: u64) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            socket,
            EventData::new_u64(number),
            EventFlags::IN,
        )?)
    }

    /// Waits until the socket can be written, which a connecting one can when it is connected or has failed.
    pub(crate) fn add_writable(&self, socket: impl AsFd, number: u64) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            socket,
            EventData::new_u64(number),
            EventFlags::OUT,
        )?)
    }

    /// From writable to readable.
    pub(crate) fn now_readable(&self, socket: impl AsFd, number: u64) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            socket,
            EventData::new_u64(number),
            EventFlags::IN,
        )?)
    }

    /// From readable to writable.
    pub(crate) fn now_writable(&self, socket: impl AsFd, number: u64) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            socket,
            EventData::new_u64(number),
            EventFlags::OUT,
        )?)
    }

    /// Appends the numbers of ready sockets to `ready`, after waiting for at most `timeout` (for ever when `None`).
    pub(crate) fn wait(&mut self, ready: &mut Vec<u64>, timeout: Option<Duration>) -> io::Result<()> {
        self.events.clear();
        let timeout = timeout
            .map(rustix::time::Timespec::try_from)
            .transpose()
            .map_err(io::Error::other)?;
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.extend(self.events.iter().map(|event| event.data.u64()));
        Ok(())
    }
}
