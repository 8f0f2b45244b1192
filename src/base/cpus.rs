//! Sets of CPUs as Linux and `--cores` write them: lists (`0-3,5`) and masks (`ff,00000001`).

/// `0-3,5`, ascending.
pub fn list(cpus: &[usize]) -> String {
    let mut text = String::new();
    let mut rest = cpus;
    while let Some((&first, tail)) = rest.split_first() {
        let run = tail.iter().zip(first + 1..).take_while(|(cpu, next)| **cpu == *next).count();
        let separator = if text.is_empty() { "" } else { "," };
        match run {
            0 => text.push_str(&format!("{separator}{first}")),
            _ => text.push_str(&format!("{separator}{first}-{}", first + run)),
        }
        rest = tail.get(run..).unwrap_or_default();
    }
    text
}

/// The CPUs of a list in the order written; `None` for anything that is no list of CPUs below `end`. An empty text is an empty set.
pub fn parse_list(text: &str, end: usize) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for item in text.split(',').map(str::trim) {
        if item.is_empty() && text.trim().is_empty() {
            return Some(cpus);
        }
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last) = (decimal(first)?, decimal(last)?);
        if first > last || last >= end || cpus.len() > end {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Hexadecimal in groups of 32 CPUs, the highest first, as `rps_cpus` and `smp_affinity` have it. No leading zeros.
pub fn mask(cpus: &[usize]) -> String {
    let groups = cpus.iter().max().map_or(1, |last| last / 32 + 1);
    let mut words = vec![0_u32; groups];
    for cpu in cpus {
        words[cpu / 32] |= 1 << (cpu % 32);
    }
    let mut text = String::new();
    for (i, word) in words.iter().rev().enumerate() {
        match i {
            0 => text.push_str(&format!("{word:x}")),
            _ => text.push_str(&format!(",{word:08x}")),
        }
    }
    text
}

/// The CPUs of a mask, ascending.
pub fn parse_mask(text: &str, end: usize) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for (group, word) in text.trim().rsplit(',').enumerate() {
        let word = u32::from_str_radix(word, 16).ok()?;
        cpus.extend((0..32).filter(|bit| word >> bit & 1 == 1).map(|bit| group * 32 + bit));
    }
    cpus.iter().all(|cpu| *cpu < end).then_some(cpus)
}

/// Digits only: `parse` would also take a sign.
fn decimal(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_are_written() {
        for (cpus, text) in [(&[][..], ""), (&[3], "3"), (&[0, 1, 2, 3, 5], "0-3,5"), (&[1, 3, 4], "1,3-4")] {
            assert_eq!(list(cpus), text);
            assert_eq!(parse_list(text, 8).as_deref(), Some(cpus));
        }
        for text in ["1,", "a", "-1", "+1", "3-1", "0-8", "1-2-3", "99999999999999999999"] {
            assert_eq!(parse_list(text, 8), None, "{text}");
        }
    }

    #[test]
    fn masks_have_groups_of_32_bits() {
        // As /proc/irq/*/smp_affinity on machines of 2, 40 and 96 CPUs.
        for (cpus, text) in
            [(vec![], "0"), (vec![0, 1], "3"), (vec![0, 39], "80,00000001"), (vec![95], "80000000,00000000,00000000")]
        {
            assert_eq!(mask(&cpus), text);
            assert_eq!(parse_mask(text, 1024), Some(cpus));
        }
        assert_eq!(parse_mask("00000000,00000003\n", 1024), Some(vec![0, 1]));
        assert_eq!(parse_mask("3", 1), None);
        assert_eq!(parse_mask("xyz", 1024), None);
    }
}
