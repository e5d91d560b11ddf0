//! 90 kHz time: wrap, rebase and repair. The only file that does wrap arithmetic.
