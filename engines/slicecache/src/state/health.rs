//! Whether an origin is asked at all: what probes of it said lately. Called with the outcome of each probe.
//!
//! Up at first. Down after as many failures in a row as are set, up again after as many successes. The breaker beside it judges the
//! requests of clients; this judges an origin that nobody asks, and one that answers and should not be asked.

/// When an origin changes sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Failures in a row after which it is down.
    pub fails: u32,
    /// Successes in a row after which it is up.
    pub passes: u32,
}

/// What probes said of one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    thresholds: Thresholds,
    is_up: bool,
    /// Probes in a row that said the contrary.
    contrary: u32,
}

impl Health {
    /// Up.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Health {
        assert!(thresholds.fails > 0 && thresholds.passes > 0);
        Health { thresholds, is_up: true, contrary: 0 }
    }

    /// A probe went well or badly; the side to which that brings it, if it changes.
    pub fn on_probe(&mut self, is_well: bool) -> Option<bool> {
        if is_well == self.is_up {
            self.contrary = 0;
            return None;
        }
        self.contrary += 1;
        let enough = if self.is_up { self.thresholds.fails } else { self.thresholds.passes };
        if self.contrary < enough {
            return None;
        }
        (self.is_up, self.contrary) = (is_well, 0);
        Some(is_well)
    }
}

/// Whether an answer to a probe is one of an origin that is well.
#[must_use]
pub fn is_well(status: u16) -> bool {
    (200..400).contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_changes_sides_after_enough_in_a_row() {
        let mut health = Health::new(Thresholds { fails: 3, passes: 2 });
        let probes = [
            (true, None),
            (false, None),
            (false, None),
            (true, None),
            (false, None),
            (false, None),
            (false, Some(false)),
            (false, None),
            (true, None),
            (false, None),
            (true, None),
            (true, Some(true)),
            (false, None),
        ];
        for (at, (is_well, expected)) in probes.into_iter().enumerate() {
            assert_eq!(health.on_probe(is_well), expected, "{at}");
        }
        assert_eq!([199, 200, 399, 400, 503].map(is_well), [false, true, true, false, false]);
    }
}
