//! Mutants of a corpus, the same ones at every run: what `make test` tries where `make fuzz` has no time.

/// A generator of numbers that are spread well and mean nothing (xorshift64*).
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The numbers of this seed.
    pub fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// One below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or_default() % bound
    }
}

/// Bytes that parsers look for.
const TELLING: &[u8] = b"\x00\x7f\x80\xff=&%+ .,:;/?#\"'\\{}[]-_~@*\r\n09azAZ";

/// A mutant of one member of the corpus, with something of another at times. Empty where the corpus is.
pub fn of(corpus: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    if corpus.is_empty() {
        return Vec::new();
    }
    let mut bytes = corpus[numbers.below(corpus.len())].clone();
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(bytes.len() + 1);
        let telling = TELLING[numbers.below(TELLING.len())];
        match numbers.below(7) {
            0 => bytes.insert(at, telling),
            1 if at < bytes.len() => bytes[at] = telling,
            2 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            3 if at < bytes.len() => {
                drop(bytes.drain(at..at + 1 + numbers.below(bytes.len() - at)));
            }
            4 => {
                let part = bytes[at..].to_vec();
                bytes.extend(part.iter().take(1 << numbers.below(12)));
            }
            5 => {
                let other = &corpus[numbers.below(corpus.len())];
                let from = numbers.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => bytes.extend(std::iter::repeat_n(telling, 1 << numbers.below(10))),
        }
    }
    bytes
}
