//! The digit images: takes the embedded file, gives a training set and a held-out set in fixed-size rows.
//!
//! Holds after it: every pixel lies in 0..=1, every label in 0..10, and the split is the same in every run. Nothing
//! here is differentiated.

use std::io::Read;

/// Rows of an image, and pixels of a row.
const SIDE: usize = 8;
/// Pixels of an image.
pub const PIXELS: usize = SIDE * SIDE;
/// Digits to tell apart.
pub const CLASSES: usize = 10;

/// `examples/data/digits.csv.gz`, in the program itself; its README names the source.
const FILE: &[u8] = include_bytes!("../../data/digits.csv.gz");
/// One image in this many is held out.
const HELD_OUT: usize = 5;

/// A small generator of pseudo-random numbers: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, 2014).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of that seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly from -1 to 1, the upper bound left out. 24 bits, as many as an `f32` holds.
    fn symmetric(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Fills with numbers spread evenly from `-bound` to `bound`.
    pub fn fill(&mut self, numbers: &mut [f32], bound: f32) {
        numbers.iter_mut().for_each(|x| *x = bound * self.symmetric());
    }

    /// 1 and -1, each in one of twenty cases, else 0.
    fn nudge(&mut self) -> isize {
        match self.next() % 20 {
            0 => -1,
            1 => 1,
            _ => 0,
        }
    }

    /// The image, now and then moved by a pixel to a side, up or down: whoever learns from it sees more than there is.
    pub fn moved(&mut self, image: &[f32; PIXELS]) -> [f32; PIXELS] {
        let by = [self.nudge(), self.nudge()];
        // Where the pixel came from, on one side of the square.
        let from = |at: usize, by: isize| at.checked_add_signed(-by).filter(|at| *at < SIDE);
        std::array::from_fn(|n| match (from(n / SIDE, by[0]), from(n % SIDE, by[1])) {
            (Some(row), Some(column)) => image[row * SIDE + column],
            _ => 0.0,
        })
    }

    /// Brings the items into random order (Fisher and Yates). In place: it allocates nothing.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            // The remainder favours small numbers by less than one part in 2^50 here.
            let other = (self.next() % (last as u64 + 1)) as usize;
            items.swap(last, other);
        }
    }
}

/// Images and their digits.
#[derive(Clone, Default)]
pub struct Digits {
    /// Pixels scaled to 0..=1.
    pub images: Vec<[f32; PIXELS]>,
    /// The digit of each image.
    pub labels: Vec<u8>,
}

impl Digits {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push(&mut self, image: [f32; PIXELS], label: u8) {
        self.images.push(image);
        self.labels.push(label);
    }
}

/// Unpacks the images and splits them: the training set and the held-out fifth, each digit in the same proportion in
/// both.
pub fn load(seed: u64) -> std::io::Result<(Digits, Digits)> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(FILE).read_to_string(&mut text)?;
    let mut rows = text.lines().map(row).collect::<Option<Vec<_>>>().ok_or(std::io::ErrorKind::InvalidData)?;
    Random::new(seed).shuffle(&mut rows);
    let (mut train, mut held_out) = (Digits::default(), Digits::default());
    let mut seen = [0; CLASSES];
    for (image, label) in rows {
        let nth = &mut seen[usize::from(label)];
        let set = if *nth % HELD_OUT == 0 { &mut held_out } else { &mut train };
        *nth += 1;
        set.push(image, label);
    }
    Ok((train, held_out))
}

/// One line: 64 counts of 0..=16, then the digit.
fn row(line: &str) -> Option<([f32; PIXELS], u8)> {
    let mut numbers = line.split(',').map(|n| n.trim().parse::<u8>().ok());
    let mut image = [0.0; PIXELS];
    for pixel in &mut image {
        *pixel = f32::from(numbers.next()??) / 16.0;
    }
    let label = numbers.next()??;
    (usize::from(label) < CLASSES && numbers.next().is_none()).then_some((image, label))
}
