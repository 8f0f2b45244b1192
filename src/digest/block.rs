//! Cutting a byte stream into 64-byte blocks and padding its end: what MD5 (RFC 1321 section 3.1) and SHA-256 (FIPS 180-4
//! section 5.1.1) share. They differ only in the byte order of the length.

/// Bytes of a block of MD5, SHA-1 and SHA-256.
pub(super) const SIZE: usize = 64;

/// One block.
pub(super) type Block = [u8; SIZE];

/// The bytes that do not fill a block yet, and the count of all bytes seen.
#[derive(Clone)]
pub(super) struct Remainder {
    length: u64,
    bytes: Block,
}

impl Remainder {
    pub(super) const fn new() -> Self {
        Self { length: 0, bytes: [0; SIZE] }
    }

    /// Bytes seen since the start.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Takes `bytes` and hands every block that is now whole to `compress`.
    pub(super) fn feed(&mut self, bytes: &[u8], mut compress: impl FnMut(&[Block])) {
        let blocks = self.align(bytes, &mut compress);
        let (whole, rest) = blocks.as_chunks::<SIZE>();
        if !whole.is_empty() {
            compress(whole);
            self.skip(whole.len());
        }
        self.keep(rest);
    }

    /// Fills up a started block from the head of `bytes` and returns what is left: it starts a block, or is empty.
    pub(super) fn align<'a>(&mut self, bytes: &'a [u8], compress: &mut impl FnMut(&[Block])) -> &'a [u8] {
        let filled = self.filled();
        if filled == 0 {
            return bytes;
        }
        let (head, rest) = bytes.split_at(bytes.len().min(SIZE - filled));
        self.keep(head);
        if filled + head.len() == SIZE {
            compress(std::slice::from_ref(&self.bytes));
        }
        rest
    }

    /// Counts `blocks` whole blocks that were compressed elsewhere.
    pub(super) fn skip(&mut self, blocks: usize) {
        debug_assert_eq!(self.filled(), 0);
        self.length = self.length.wrapping_add((blocks * SIZE) as u64);
    }

    /// Stores bytes that do not complete more than the started block.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        let filled = self.filled();
        self.bytes[filled..filled + bytes.len()].copy_from_slice(bytes);
        self.length = self.length.wrapping_add(bytes.len() as u64);
    }

    /// Pads with a one bit, zeros and the length in bits, as `length_bytes` spells it, and compresses the last blocks.
    pub(super) fn pad(mut self, length_bytes: fn(u64) -> [u8; 8], mut compress: impl FnMut(&[Block])) {
        let filled = self.filled();
        self.bytes[filled] = 0x80;
        self.bytes[filled + 1..].fill(0);
        if filled + 1 > SIZE - 8 {
            compress(std::slice::from_ref(&self.bytes));
            self.bytes.fill(0);
        }
        self.bytes[SIZE - 8..].copy_from_slice(&length_bytes(self.length.wrapping_mul(8)));
        compress(std::slice::from_ref(&self.bytes));
    }

    fn filled(&self) -> usize {
        (self.length % SIZE as u64) as usize
    }
}
