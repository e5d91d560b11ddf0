#![no_main]
lhls_fuzz::target!(chunks);
