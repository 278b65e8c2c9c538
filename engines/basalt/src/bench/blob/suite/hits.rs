//! Reads answered from RAM and from disk, and what was read ahead, as the server's own metrics count them.

/// Counts so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hits {
    /// From RAM.
    pub ram: f64,
    /// From disk.
    pub disk: f64,
    /// Extents read ahead of readers.
    pub ahead: f64,
}

impl Hits {
    /// Asks the server; `None` when there are no such metrics at `ops`, as with a server that is not ours.
    pub fn read(ops: &str) -> Option<Self> {
        let host = ops.strip_prefix("http://").unwrap_or(ops).trim_end_matches('/');
        let mut answer =
            ureq::get(format!("http://{host}/metrics")).config().proxy(None).build().call().ok()?;
        Self::parse(&answer.body_mut().read_to_string().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let sum = |name: &str| -> Option<f64> {
            let rest = text.lines().filter_map(|line| line.strip_prefix(name));
            let values = rest.filter(|rest| rest.starts_with([' ', '{']));
            let values = values.map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok());
            values.reduce(|a, b| Some(a? + b?)).flatten()
        };
        Some(Self {
            ram: sum("blobcache_l0_hits_total")?,
            disk: sum("blobcache_l1_hits_total")?,
            ahead: sum("blobcache_prefetch_issued_total")?,
        })
    }

    /// What was added since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            ram: self.ram - earlier.ram,
            disk: self.disk - earlier.disk,
            ahead: self.ahead - earlier.ahead,
        }
    }

    /// Share of reads answered from RAM; 0 when there were none.
    pub fn ratio(self) -> f64 {
        match self.ram + self.disk {
            0.0 => 0.0,
            all => self.ram / all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_summed_and_other_names_left_out() {
        let text = "# TYPE blobcache_l0_hits_total counter\nblobcache_l0_hits_total{column=\"0\"} 3\n\
                    blobcache_l0_hits_total{column=\"1\"} 4\nblobcache_l0_hits_total_x 9\n\
                    blobcache_l1_hits_total 1\nblobcache_prefetch_issued_total{column=\"0\"} 5\n";
        let hits = Hits::parse(text).expect("both are there");
        assert_eq!(hits, Hits { ram: 7.0, disk: 1.0, ahead: 5.0 });
        let later = hits.since(Hits { ram: 1.0, disk: 1.0, ahead: 2.0 });
        assert_eq!(later, Hits { ram: 6.0, disk: 0.0, ahead: 3.0 });
        assert_eq!((hits.ratio(), Hits::default().ratio()), (0.875, 0.0));
        assert_eq!(Hits::parse("blobcache_l0_hits_total 1\n"), None);
    }
}
