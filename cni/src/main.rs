//! The chained CNI plug-in.

fn main() {}
