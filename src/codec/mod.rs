//! One codec per file: parsing of its configuration and of as much of its bitstream as a server needs.
//!
//! Nothing here decodes a picture or a sample.

pub mod aac;
pub mod h264;
pub mod mp3;
