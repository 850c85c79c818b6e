//! What health checks in a row come to.

/// Checks of one endpoint.
#[derive(Debug)]
pub(super) struct Streak {
    /// Good ones after which it is back.
    healthy: u32,
    /// Bad ones after which it is left out.
    unhealthy: u32,
    /// What is known of it; nothing before the first check.
    is_healthy: Option<bool>,
    /// How many in a row say otherwise.
    against: u32,
}

impl Streak {
    pub(super) fn new(healthy: u32, unhealthy: u32) -> Self {
        Self {
            healthy,
            unhealthy,
            is_healthy: None,
            against: 0,
        }
    }

    /// Takes note of a check. Returns what is known of the endpoint, if that is something else than before. Of one that nothing is known
    /// of, the first check says it.
    pub(super) fn note(&mut self, is_good: bool) -> Option<bool> {
        if self.is_healthy == Some(is_good) {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = match self.is_healthy {
            None => 1,
            Some(true) => self.unhealthy,
            Some(false) => self.healthy,
        };
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.is_healthy = Some(is_good);
        self.is_healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_goes_out_and_comes_back_after_enough_checks_in_a_row() {
        let mut streak = Streak::new(2, 3);
        let mut note = |is_good: bool| streak.note(is_good);
        assert_eq!(note(true), Some(true));
        assert_eq!([note(false), note(false), note(true)], [None; 3]);
        assert_eq!([note(false), note(false), note(false)], [None, None, Some(false)]);
        assert_eq!([note(false), note(true), note(false)], [None; 3]);
        assert_eq!([note(true), note(true)], [None, Some(true)]);
        let mut new = Streak::new(5, 5);
        assert_eq!(new.note(false), Some(false));
    }
}
