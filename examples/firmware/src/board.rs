//! The board: text to the debugger, the memory taken, the end. All unsafe code of the program is here.

use cortex_m_semihosting::{debug, hio};

/// Reached by nothing, or the program does not link: what it calls is defined nowhere.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    unsafe extern "C" {
        fn something_in_this_program_can_panic() -> !;
    }
    // SAFETY: no program that has this call links.
    unsafe { something_in_this_program_can_panic() }
}

/// A line of text in the making; what does not fit is left out.
pub struct Text {
    bytes: [u8; 80],
    length: usize,
}

impl Text {
    pub fn new(text: &str) -> Self {
        Text { bytes: [0; 80], length: 0 }.text(text)
    }

    fn byte(mut self, byte: u8) -> Self {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
        self
    }

    pub fn text(self, text: &str) -> Self {
        text.bytes().fold(self, Self::byte)
    }

    /// The last digits of a number, so many.
    fn digits(self, mut n: u32, count: usize) -> Self {
        let mut digits = [0; 10];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (n % 10) as u8;
            n /= 10;
        }
        digits.into_iter().skip(digits.len().saturating_sub(count)).fold(self, Self::byte)
    }

    pub fn number(self, n: u32) -> Self {
        self.digits(n, n.checked_ilog10().map_or(1, |log| log as usize + 1))
    }

    /// A number of ten-thousandths.
    pub fn decimals(self, n: u32) -> Self {
        self.number(n / 10_000).byte(b'.').digits(n, 4)
    }

    /// Prints the line. A debugger that does not listen is no error.
    pub fn end(self) {
        let line = self.byte(b'\n');
        if let (Ok(mut out), Some(bytes)) = (hio::hstdout(), line.bytes.get(..line.length)) {
            let _ = out.write_all(bytes);
        }
    }
}

/// Bytes of memory.
pub struct Memory {
    /// Code, constants and the values that RAM starts with.
    pub flash: u32,
    /// Variables.
    pub data: u32,
    /// The deepest that the stack has been.
    pub stack: u32,
}

/// What the program takes, by the addresses that `link.x` gives names.
pub fn memory() -> Memory {
    unsafe extern "C" {
        static __vector_table: u32;
        static __sidata: u32;
        static __sdata: u32;
        static __edata: u32;
        static __sheap: u32;
        static _stack_start: u32;
    }
    let at = |symbol: *const u32| symbol.addr() as u32;
    let initial = at(&raw const __edata) - at(&raw const __sdata);
    let (lowest, top) = (&raw const __sheap, &raw const _stack_start);
    let mut untouched = lowest;
    // SAFETY: the words between the variables and the start of the stack are RAM, which was filled with `PAINT` before
    // `main`.
    while untouched < top && unsafe { untouched.read_volatile() } == PAINT {
        untouched = untouched.wrapping_add(1);
    }
    Memory {
        flash: at(&raw const __sidata) + initial - at(&raw const __vector_table),
        data: at(lowest) - at(&raw const __sdata),
        stack: at(top) - at(untouched),
    }
}

/// What `cortex-m-rt` fills the stack with, by its feature `paint-stack`.
const PAINT: u32 = 0xCCCC_CCCC;

/// Ends the emulator, with its exit code.
pub fn exit(well: bool) -> ! {
    debug::exit(if well { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {}
}
