//! How far apart the pictures (or frames) of a track usually are.

use super::Ticks;

/// Watches the distances of a track's access units.
#[derive(Debug, Default)]
pub struct Rhythm {
    /// The latest distances, a ring.
    steps: [Ticks; STEPS],
    seen: usize,
}

impl Rhythm {
    /// Notes how far an access unit is from the one before it.
    pub fn note(&mut self, step: Ticks) {
        self.steps[self.seen % STEPS] = step;
        self.seen += 1;
    }

    /// The usual distance: the mean of the latest ones less the largest two, which may be holes. `None` before there is one.
    pub fn usual(&self) -> Option<Ticks> {
        let mut steps = self.steps;
        let steps = &mut steps[..self.seen.min(STEPS)];
        steps.sort_unstable();
        let usual = &steps[..steps.len() - HOLES.min(steps.len() / 2)];
        let sum: i64 = usual.iter().map(|step| step.get()).sum();
        (!usual.is_empty()).then(|| Ticks::new(sum / usual.len() as i64))
    }
}

const STEPS: usize = 8;
const HOLES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn usual(steps: &[i64]) -> Option<i64> {
        let mut rhythm = Rhythm::default();
        steps.iter().for_each(|&step| rhythm.note(Ticks::new(step)));
        rhythm.usual().map(Ticks::get)
    }

    #[test]
    fn holes_do_not_count_and_a_new_rate_does() {
        assert_eq!(usual(&[]), None);
        assert_eq!(usual(&[40]), Some(40));
        assert_eq!(usual(&[40, 400]), Some(40));
        assert_eq!(usual(&[33, 34, 33, 900, 33, 500, 34, 33]), Some(33));
        assert_eq!(usual(&[[33; 8], [66; 8]].concat()), Some(66));
        // Pictures in pairs.
        assert_eq!(usual(&[1, 66, 1, 66, 1, 66, 1, 66]), Some(22));
    }
}
