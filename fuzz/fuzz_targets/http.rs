#![no_main]
lhls_fuzz::target!(http);
