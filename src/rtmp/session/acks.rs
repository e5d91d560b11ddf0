//! Acknowledgements of received bytes (specification section 5.4.3).
//!
//! They carry the running total, and are due at half the window: some encoders stop and wait at the whole of it.

/// Counts what was received, for the acknowledgements the peer may wait for.
#[derive(Debug)]
pub(super) struct Acks {
    window: u32,
    /// All bytes received; wraps, as its field on the wire does.
    total: u32,
    acknowledged: u32,
    /// Bytes that the last call left in the input buffer, and that are counted.
    counted: usize,
}

impl Acks {
    pub(super) fn new(window: u32) -> Self {
        Self {
            window,
            total: 0,
            acknowledged: 0,
            counted: 0,
        }
    }

    pub(super) fn set_window(&mut self, size: u32) {
        if size > 0 {
            self.window = size;
        }
    }

    pub(super) fn arrived(&mut self, buffered: usize) {
        let new = buffered.saturating_sub(self.counted);
        // Wraps by intent.
        self.total = self.total.wrapping_add(new as u32);
    }

    pub(super) fn left(&mut self, buffered: usize) {
        self.counted = buffered;
    }

    #[cfg(test)]
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// The running total, if half the window has passed since it was last told.
    pub(super) fn due(&mut self) -> Option<u32> {
        let since = self.total.wrapping_sub(self.acknowledged);
        (since > 0 && since >= self.window / 2).then(|| {
            self.acknowledged = self.total;
            self.total
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_total_wraps_fmle() {
        let mut acks = Acks::new(1000);
        acks.total = u32::MAX - 100;
        acks.acknowledged = u32::MAX - 100;
        acks.arrived(600);
        assert_eq!(acks.due(), Some(499));
        acks.left(0);
        acks.arrived(499);
        assert_eq!(acks.due(), None);
    }
}
