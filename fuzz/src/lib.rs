//! Fuzz targets: what they do is in [`targets`]; here is what only libFuzzer's programs need.

mod common;
pub mod memory;
#[path = "targets/mod.rs"]
pub mod targets;

/// The whole of a libFuzzer program: runs the target of this name under the counting allocator.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        #[global_allocator]
        static ALLOCATOR: $crate::memory::Counting = $crate::memory::Counting;

        libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            $crate::memory::bounded($crate::targets::$name::memory_bound(data.len()), || {
                $crate::targets::$name::run(data)
            });
        });
    };
}
