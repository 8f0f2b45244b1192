//! How is it doing? Two rooms in one folder, far apart: `record` (floor 1) is a handful of plain stores on the data path,
//! `export` (floor 5) reads them on a thread of its own and knows all rooms that have something to tell. Neither is in the
//! other's way: a data core never learns whether somebody looks.

pub mod export;
pub mod record;
