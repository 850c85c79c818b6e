//! For the worst, which is another thing for policies that allow than for those that deny.

/// Which way a rule may err where layer 4 cannot decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It matches no more than what is written: for policies that allow.
    Under,
    /// It matches no less than what is written: for policies that deny.
    Over,
}
