//! Trains the digits network on the device, from images in its flash: gives the loss of each epoch, the accuracy on
//! images held out, and how much memory it took. Exits with a failure where the network has not learnt.
//!
//! Holds after it: no allocation, no panic (`board.rs`: a program with one does not link), and all memory is within the
//! budget of `memory.x`.

#![no_std]
#![no_main]

mod board;
mod network;

use board::Text;
use network::{Digits, Network};

/// How often each image is shown.
const EPOCHS: u32 = 12;

/// 1797 images, 65 bytes each: 64 pixels of 0..=16, then the digit.
static DIGITS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/digits.bin"));

/// In ten-thousandths, to be printed.
fn parts(x: f32) -> u32 {
    (x * 10_000.0) as u32
}

#[cortex_m_rt::entry]
fn main() -> ! {
    // Held by the entry macro, once: all of the network's memory.
    static mut NETWORK: Network = Network::ZERO;
    // One image in five is held out.
    let (images, _) = DIGITS.as_chunks();
    let digits = Digits { images, held_out: 5 };
    NETWORK.start();
    for epoch in 1..=EPOCHS {
        // The steps get smaller evenly.
        let rate = 0.25 * (EPOCHS + 1 - epoch) as f32 / EPOCHS as f32;
        let loss = NETWORK.epoch(&digits, rate);
        Text::new("epoch ").number(epoch).text(", loss ").decimals(parts(loss)).end();
    }
    let accuracy = NETWORK.accuracy(&digits);
    Text::new("accuracy on images held out ").decimals(parts(accuracy)).end();
    let memory = board::memory();
    Text::new("flash ").number(memory.flash).text(" bytes, of them images ").number(DIGITS.len() as u32).end();
    Text::new("RAM ").number(memory.data).text(" bytes, and stack ").number(memory.stack).end();
    board::exit(accuracy > 0.9)
}
