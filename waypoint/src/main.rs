//! `culvert-waypoint`.

fn main() {}
