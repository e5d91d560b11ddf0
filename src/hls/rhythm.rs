//! Whether an encoder's groups of pictures are all alike, so that the last picture of one can be told when it comes.
//!
//! Most encoders send a key frame every so many pictures. Then the end of a segment is known one picture before the next key frame
//! arrives, and its viewers can ask for the next one in the meantime. Counting pictures errs on the safe side: what is lost on the
//! way makes a group shorter, and a key frame that comes early is no surprise to anybody. Times are not looked at.

/// The pictures of one run, counted.
#[derive(Debug, Default)]
pub(super) struct Rhythm {
    /// Pictures since the last key frame, itself included; 0 before the first.
    pictures: u32,
    /// Pictures of the last complete group.
    length: u32,
    /// Groups in a row, complete ones, that had as many.
    alike: u32,
    /// A group has gone on where its end was foretold. This encoder is not asked again.
    broken: bool,
}

impl Rhythm {
    /// Counts a picture. False if it contradicts what has been foretold.
    pub(super) fn note(&mut self, key: bool) -> bool {
        let foretold = self.next_is_key();
        if key {
            if self.pictures > 0 {
                self.alike = if self.pictures == self.length {
                    self.alike + 1
                } else {
                    1
                };
                self.length = self.pictures;
            }
            self.pictures = 1;
        } else if self.pictures > 0 {
            self.pictures += 1;
            self.broken |= foretold;
        }
        key || !foretold
    }

    /// Whether the next picture will be a key frame, by all that has been seen.
    pub(super) fn next_is_key(&self) -> bool {
        !self.broken && self.alike >= ENOUGH && self.pictures == self.length
    }
}

/// Groups of the same length after which the next one is expected to be as long. One that is not costs viewers its further pictures,
/// so an encoder has to earn this; it is trusted wrongly once at the most.
const ENOUGH: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(rhythm: &mut Rhythm, groups: &[u32]) -> Vec<bool> {
        let mut foretold = Vec::new();
        for &pictures in groups {
            for picture in 0..pictures {
                rhythm.note(picture == 0);
            }
            foretold.push(rhythm.next_is_key());
        }
        foretold
    }

    #[test]
    fn the_end_of_a_group_is_known_after_six_alike() {
        let mut rhythm = Rhythm::default();
        assert_eq!(feed(&mut rhythm, &[30; 6]), [false; 6]);
        assert_eq!(feed(&mut rhythm, &[30; 3]), [true; 3]);
        // Lost pictures are no reason for distrust, but the count begins again.
        assert_eq!(feed(&mut rhythm, &[29, 30, 30]), [false; 3]);
        assert_eq!(
            feed(&mut rhythm, &[30; 6]),
            [false, false, false, true, true, true]
        );
    }

    #[test]
    fn an_encoder_that_goes_on_is_not_trusted_again() {
        let mut rhythm = Rhythm::default();
        feed(&mut rhythm, &[30; 7]);
        assert!(rhythm.next_is_key());
        assert!(!rhythm.note(false));
        assert!(rhythm.note(false));
        assert_eq!(feed(&mut rhythm, &[30; 20]), [false; 20]);
    }

    #[test]
    fn one_picture_groups_are_all_key_frames() {
        let mut rhythm = Rhythm::default();
        assert!(feed(&mut rhythm, &[1; 8])[7]);
    }
}
