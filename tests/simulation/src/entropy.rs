//! Has the standard library's hash maps go through their entries in the same order when a seed is
//! run again: the keys that they hash with come from `getrandom`, which a thread of a simulation
//! answers from its seed. The library asks through a weak symbol, so that programs can do so.
//!
//! Nothing but Linux needs to have it: elsewhere, a run may not repeat.

use std::cell::Cell;

thread_local! {
    static NEXT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on, this thread's hash maps get keys of this seed.
pub fn begin(seed: u64) {
    NEXT.set(Some(seed));
}

/// Stands in for the C library's function of that name, for whoever asks this program for it.
///
/// # Safety
/// As that function: `buffer` has room for `length` bytes.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the signature is the C library's")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
    // SAFETY: the caller lends `length` bytes for the length of the call. They are written before
    // they are read.
    let bytes = unsafe {
        std::ptr::write_bytes(buffer, 0, length);
        std::slice::from_raw_parts_mut(buffer, length)
    };
    // An error: the thread is ending.
    let seeded = NEXT.try_with(Cell::get).ok().flatten();
    if let Some(seed) = seeded {
        let mut dice = crate::dice::Dice::new(seed, 9);
        for byte in bytes.iter_mut() {
            *byte = dice.bits() as u8;
        }
        let _ = NEXT.try_with(|next| next.set(Some(dice.bits())));
        return isize::try_from(length).unwrap_or(isize::MAX);
    }
    let flags = rustix::rand::GetRandomFlags::from_bits_retain(flags);
    match rustix::rand::getrandom(bytes, flags) {
        Ok(filled) => isize::try_from(filled).unwrap_or(isize::MAX),
        Err(_) => -1,
    }
}
