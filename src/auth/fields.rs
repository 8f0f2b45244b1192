//! Header fields by name. A few are looked through one by one. Of many an order is made first: metadata may come as a field for each
//! two of its bytes, and a head of 33 KiB must not cost a core 20 ms before anybody knows who sent it.

use std::cmp::Ordering;

use super::Headers;

/// Fields up to which looking through them costs less than sorting them.
const FEW_FIELDS: usize = 64;
/// Bytes of a list of names that is searched as it is.
const FEW_NAMES_SIZE: usize = 1024;

/// The fields of one request in the order of their names; those of a name in the order of the request.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// Empty where they are few.
    order: Vec<u32>,
}

impl Fields {
    pub(super) fn read<H: Headers + ?Sized>(&mut self, headers: &H) {
        self.order.clear();
        let count = headers.count();
        if count > FEW_FIELDS {
            self.order.extend((0..count).map(|index| index as u32));
            self.order.sort_by(|a, b| compare(headers.field(*a as usize).0, headers.field(*b as usize).0));
        }
    }

    /// The values of all fields called `name` in any case.
    pub(super) fn values<'a, H: Headers + ?Sized>(
        &'a self,
        headers: &'a H,
        name: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> + 'a {
        let compared = |index: &u32| compare(headers.field(*index as usize).0, name);
        let range = match self.order.as_slice() {
            [] => 0..headers.count(),
            order => {
                let start = order.partition_point(|index| compared(index) == Ordering::Less);
                start..start + order[start..].partition_point(|index| compared(index) == Ordering::Equal)
            }
        };
        let at = |place: usize| self.order.get(place).map_or(place, |index| *index as usize);
        let fields = range.map(move |place| headers.field(at(place)));
        fields.filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// The names of `SignedHeaders`.
pub(super) struct SignedNames<'a> {
    text: &'a str,
    /// Empty where they are few.
    sorted: Vec<&'a str>,
}

impl<'a> SignedNames<'a> {
    pub(super) fn read(text: &'a str) -> Self {
        let mut sorted: Vec<&str> = if text.len() > FEW_NAMES_SIZE { text.split(';').collect() } else { Vec::new() };
        sorted.sort_unstable_by(|a, b| compare(a.as_bytes(), b.as_bytes()));
        Self { text, sorted }
    }

    pub(super) fn has(&self, name: &[u8]) -> bool {
        match self.sorted.as_slice() {
            [] => self.text.split(';').any(|signed| name.eq_ignore_ascii_case(signed.as_bytes())),
            sorted => sorted.binary_search_by(|signed| compare(signed.as_bytes(), name)).is_ok(),
        }
    }
}

fn compare(a: &[u8], b: &[u8]) -> Ordering {
    a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Field = (Vec<u8>, Vec<u8>);

    fn by_looking(fields: &[Field], name: &[u8]) -> Vec<Vec<u8>> {
        fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone()).collect()
    }

    proptest! {
        /// Whatever their number, the same is found as by looking at each.
        #[test]
        fn many_are_found_as_few_are(
            fields in proptest::collection::vec(("[a-cA-C]{0,2}", "[x-z]{0,2}"), 0..3 * FEW_FIELDS),
            names in proptest::collection::vec("[a-dA-D]{0,3}", 0..5),
            padding in 0..2 * FEW_NAMES_SIZE,
        ) {
            let fields: Vec<Field> = fields.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect();
            let borrowed: Vec<(&[u8], &[u8])> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
            let mut order = Fields::default();
            order.read(borrowed.as_slice());
            let text = format!("{};{}", names.join(";"), "z".repeat(padding));
            let signed = SignedNames::read(&text);
            let asked = names.iter().map(|name| name.as_bytes()).chain(fields.iter().map(|(name, _)| &name[..]));
            for name in asked {
                let found: Vec<Vec<u8>> = order.values(borrowed.as_slice(), name).map(<[u8]>::to_vec).collect();
                prop_assert_eq!(found, by_looking(&fields, name));
                prop_assert_eq!(signed.has(name), text.split(';').any(|known| known.as_bytes().eq_ignore_ascii_case(name)));
            }
        }
    }
}
