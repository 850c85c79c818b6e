//! Applications that speak HTTP: what sends requests, and what answers them, as cheaply as a program can that must not be what a
//! proxy is measured by.
//!
//! `options` is the client's command line, `load` runs it, `pace` when a request is due; `http1` speaks HTTP/1.1 on epoll, `http2` HTTP/2 and
//! gRPC by the crate h2. `serve` answers all of them.

mod http1;
mod http2;
mod load;
mod options;
mod pace;
mod serve;

pub(crate) use http1::head_and_length;
pub(crate) use load::run as load;
pub(crate) use options::{Kind, Options as LoadOptions};
pub(crate) use serve::{Options as ServeOptions, run as serve};

/// The length of the bodies of requests and answers, and of gRPC's messages with their heads, bytes.
const BODY: usize = 1024;
