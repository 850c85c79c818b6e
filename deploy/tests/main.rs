//! What the manifests come to, in every form in which they are given. One program; a test's name begins with its file's.

mod admitted;
mod manifests;
mod monitors;
mod privileges;
mod renderings;
mod settings;
