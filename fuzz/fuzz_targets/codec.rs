#![no_main]
lhls_fuzz::target!(codec);
