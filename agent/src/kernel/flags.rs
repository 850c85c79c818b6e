//! The flags by which the programs know what a pod has, while it is brought in anew.

use culvert_abi::Pod;

/// What a pod's connections meet while it is brought in anew, of what they met before and what they will meet: what it had and keeps, it has
/// all the time. What it loses is lost first, and what is new comes when all is there that it counts on.
pub(super) fn meanwhile(before: u32, after: u32) -> u32 {
    const HOLD: u32 = Pod::HOLD_ALL | Pod::HOLD_SOME;
    const EXTRAS: u32 = HOLD | Pod::FALLBACK | Pod::DNS | Pod::LEGS;
    // Which of its connections are held may change at once: whoever holds some can hold all.
    let hold = if before & HOLD == 0 { 0 } else { after & HOLD };
    before & !EXTRAS | before & after & EXTRAS & !HOLD | hold
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_keeps_it_has_all_the_time_while_it_is_brought_in_anew() {
        let all = Pod::OUTBOUND | Pod::INBOUND | Pod::FALLBACK | Pod::DNS | Pod::LEGS | Pod::HOLD_SOME;
        assert_eq!(meanwhile(all, all), all);
        // What it loses goes first; whether it is captured is the last thing that changes.
        assert_eq!(meanwhile(all, 0), Pod::OUTBOUND | Pod::INBOUND);
        assert_eq!(meanwhile(all, all & !Pod::DNS), all & !Pod::DNS);
        // What is new waits for what it counts on.
        assert_eq!(meanwhile(0, all), 0);
        assert_eq!(meanwhile(Pod::OUTBOUND, all), Pod::OUTBOUND);
        // Of two ways to hold one is always in force.
        assert_eq!(meanwhile(Pod::HOLD_ALL, Pod::HOLD_SOME), Pod::HOLD_SOME);
        assert_eq!(meanwhile(Pod::HOLD_SOME, Pod::HOLD_ALL), Pod::HOLD_ALL);
        assert_eq!(meanwhile(Pod::HOLD_ALL, 0), 0);
    }
}
