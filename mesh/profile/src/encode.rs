//! From stacks to pprof's message.

use std::{
    collections::HashMap,
    io::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use flate2::{Compression, write::GzEncoder};
use prost::Message as _;

use crate::{
    ProfileError, RATE,
    maps::{self, Mapped},
    message::{Function, Line, Location, Mapping, Profile, Sample, ValueType},
};

/// Processor time that a sample stands for.
const PERIOD: i64 = 1_000_000_000 / RATE as i64;

/// The stacks of a profile.
#[derive(Debug)]
pub struct Samples {
    /// Each innermost first, with how often it was seen.
    stacks: HashMap<Vec<usize>, i64>,
    lost: u64,
    began: SystemTime,
    took: Duration,
}

impl Samples {
    pub(crate) fn new(all: Vec<Vec<usize>>, lost: u64, began: SystemTime, took: Duration) -> Self {
        let mut stacks = HashMap::new();
        for stack in all.into_iter().filter(|stack| !stack.is_empty()) {
            *stacks.entry(stack).or_default() += 1;
        }
        Self {
            stacks,
            lost,
            began,
            took,
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.stacks.values().sum::<i64>().unsigned_abs()
    }

    /// The profile as `go tool pprof` reads it: the message, compressed by gzip. Looks names up in the program's own file, which
    /// takes a second or so of processor time: not for a thread that others wait for.
    ///
    /// # Errors
    /// When it does not compress.
    pub fn encode(&self) -> Result<Vec<u8>, ProfileError> {
        let list = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mut book = Book::new(maps::executable(&list));
        let message = self.message(&mut book);
        backtrace::clear_symbol_cache();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&message.encode_to_vec()).map_err(ProfileError::Write)?;
        gzip.finish().map_err(ProfileError::Write)
    }

    fn message(&self, book: &mut Book) -> Profile {
        let samples = ValueType {
            r#type: book.text("samples"),
            unit: book.text("count"),
        };
        let time = ValueType {
            r#type: book.text("cpu"),
            unit: book.text("nanoseconds"),
        };
        let sample = self.stacks.iter().map(|(stack, seen)| Sample {
            location_id: locations(book, stack),
            value: vec![*seen, *seen * PERIOD],
        });
        let sample = sample.collect();
        let lost = format!("{} samples were lost for want of room", self.lost);
        let comment = (self.lost > 0).then(|| book.text(&lost));
        let began = self.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        Profile {
            sample_type: vec![samples, time],
            sample,
            mapping: std::mem::take(&mut book.mappings),
            location: std::mem::take(&mut book.locations),
            function: std::mem::take(&mut book.functions),
            string_table: std::mem::take(&mut book.texts),
            time_nanos: nanos(began),
            duration_nanos: nanos(self.took),
            period_type: Some(time),
            period: PERIOD,
            comment: comment.into_iter().collect(),
        }
    }
}

/// The locations of a stack. All but the innermost address are where a call returns to, which may be another line, or another
/// function, than the call's.
fn locations(book: &mut Book, stack: &[usize]) -> Vec<u64> {
    let places = stack.iter().enumerate();
    places
        .map(|(depth, address)| {
            book.location(if depth == 0 {
                *address
            } else {
                address.saturating_sub(1)
            })
        })
        .collect()
}

/// What samples refer to, each once. Numbers begin at 1.
struct Book {
    texts: Vec<String>,
    text_numbers: HashMap<String, i64>,
    functions: Vec<Function>,
    function_numbers: HashMap<(i64, i64), u64>,
    locations: Vec<Location>,
    location_numbers: HashMap<usize, u64>,
    mappings: Vec<Mapping>,
}

impl Book {
    fn new(mapped: Vec<Mapped>) -> Self {
        let mut book = Self {
            texts: Vec::new(),
            text_numbers: HashMap::new(),
            functions: Vec::new(),
            function_numbers: HashMap::new(),
            locations: Vec::new(),
            location_numbers: HashMap::new(),
            mappings: Vec::new(),
        };
        // The first text is the empty one.
        book.text("");
        for one in mapped {
            let mapping = Mapping {
                id: book.mappings.len() as u64 + 1,
                memory_start: one.start,
                memory_limit: one.end,
                file_offset: one.offset,
                filename: book.text(&one.file),
                has_functions: false,
            };
            book.mappings.push(mapping);
        }
        book
    }

    fn text(&mut self, text: &str) -> i64 {
        if let Some(number) = self.text_numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as i64;
        self.texts.push(text.to_owned());
        self.text_numbers.insert(text.to_owned(), number);
        number
    }

    fn location(&mut self, address: usize) -> u64 {
        if let Some(number) = self.location_numbers.get(&address) {
            return *number;
        }
        let mut lines = Vec::new();
        backtrace::resolve(address as *mut _, |symbol| {
            let Some(name) = symbol.name() else { return };
            let file = symbol.filename().map(|file| file.to_string_lossy().into_owned());
            let function_id = self.function(&format!("{name:#}"), &file.unwrap_or_default());
            let line = symbol.lineno().unwrap_or_default().into();
            lines.push(Line { function_id, line });
        });
        let id = self.locations.len() as u64 + 1;
        let location = Location {
            id,
            mapping_id: self.mapping(address as u64, !lines.is_empty()),
            address: address as u64,
            line: lines,
        };
        self.locations.push(location);
        self.location_numbers.insert(address, id);
        id
    }

    /// The mapping of an address; 0 where there is none.
    fn mapping(&mut self, address: u64, is_named: bool) -> u64 {
        let here = |mapping: &&mut Mapping| (mapping.memory_start..mapping.memory_limit).contains(&address);
        self.mappings.iter_mut().find(here).map_or(0, |mapping| {
            mapping.has_functions |= is_named;
            mapping.id
        })
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let key = (self.text(name), self.text(file));
        let functions = &mut self.functions;
        *self.function_numbers.entry(key).or_insert_with(|| {
            let id = functions.len() as u64 + 1;
            functions.push(Function {
                id,
                name: key.0,
                system_name: key.0,
                filename: key.1,
            });
            id
        })
    }
}

#[cfg(test)]
mod tests;
