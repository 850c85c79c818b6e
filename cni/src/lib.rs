//! Culvert's chained CNI plug-in: holds a new pod back until its node's agent has captured it, so that not even the pod's
//! first packet travels in plaintext.
//!
//! The container runtime calls the program `culvert-cni` as the last plug-in of its chain, when the pod has its network
//! namespace and addresses, and before any of its containers runs. It asks the agent over a unix socket and passes the
//! previous plug-in's result through. What the agent needs of this crate is the same library.
//!
//! | module | what |
//! |---|---|
//! | [`plugin`] | the commands: what is asked, what is answered when nobody answers. Start reading here |
//! | [`caller`] | who is meant: the environment that the runtime sets |
//! | [`config`] | the configuration on standard input, with the previous result |
//! | [`wire`] | what plug-in and agent say to each other |
//! | [`agent`] | the plug-in's end of that conversation |
//! | [`state`] | what the agent leaves on disk for when it does not answer |
//! | [`unattended`] | whether an agent will ever come back, when none answers |
//! | [`error`] | CNI's error object, which `kubectl describe pod` shows |
//! | [`span`] | finding a value's text inside a JSON text, so that what is not ours stays as it is |
//!
//! The program knows nothing of Kubernetes' API. Everything is decided anew in each call; the one thing that it writes down is since when no
//! pod of the mesh has been on the node.

#![forbid(unsafe_code)]

pub mod agent;
pub mod caller;
pub mod config;
pub mod error;
pub mod plugin;
pub mod span;
pub mod state;
pub mod unattended;
pub mod wire;
