//! What the samples of a profile refer to: files in memory, places in them, functions and texts.

use std::{collections::HashMap, io::Write as _};

use flate2::{Compression, write::GzEncoder};
use prost::Message as _;

use crate::{
    ProfileError,
    maps::{self, Mapped},
    message::{Function, Line, Location, Mapping, Profile, ValueType},
};

/// What samples refer to, each once. Numbers begin at 1, those of texts at 0.
pub(crate) struct Book {
    texts: Vec<String>,
    text_numbers: HashMap<String, i64>,
    functions: Vec<Function>,
    function_numbers: HashMap<(i64, i64), u64>,
    locations: Vec<Location>,
    location_numbers: HashMap<usize, u64>,
    mappings: Vec<Mapping>,
}

impl Book {
    /// Empty, for this process.
    pub(crate) fn of_this_process() -> Self {
        let list = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Self::new(maps::executable(&list))
    }

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

    /// The number of a text.
    pub(crate) fn text(&mut self, text: &str) -> i64 {
        if let Some(number) = self.text_numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as i64;
        self.texts.push(text.to_owned());
        self.text_numbers.insert(text.to_owned(), number);
        number
    }

    /// A kind of value.
    pub(crate) fn value(&mut self, r#type: &str, unit: &str) -> ValueType {
        ValueType {
            r#type: self.text(r#type),
            unit: self.text(unit),
        }
    }

    /// The locations of a stack, which is innermost first. Each address but that of an `interrupted` instruction is where a call returns to, which
    /// may be another line, or another function, than the call's.
    pub(crate) fn locations(&mut self, stack: &[usize], is_interrupted: bool) -> Vec<u64> {
        let places = stack.iter().enumerate();
        places
            .map(|(depth, address)| match depth == 0 && is_interrupted {
                true => self.location(*address),
                false => self.location(address.saturating_sub(1)),
            })
            .collect()
    }

    /// Whether all functions of a location are named, and by names for which `is_meant` holds.
    pub(crate) fn is_within(&self, location: u64, is_meant: impl Fn(&str) -> bool) -> bool {
        let lines = self.locations.get(location as usize - 1).map(|one| one.line.as_slice());
        let name = |line: &Line| self.functions.get(line.function_id as usize - 1).map(|one| one.name);
        let text = |line: &Line| self.texts.get(name(line)? as usize).map(String::as_str);
        lines.is_some_and(|lines| !lines.is_empty() && lines.iter().all(|line| text(line).is_some_and(&is_meant)))
    }

    /// The profile with all that it refers to, as `go tool pprof` reads it: the message, compressed by gzip.
    ///
    /// # Errors
    /// When it does not compress.
    pub(crate) fn close(self, profile: Profile) -> Result<Vec<u8>, ProfileError> {
        backtrace::clear_symbol_cache();
        let whole = Profile {
            mapping: self.mappings,
            location: self.locations,
            function: self.functions,
            string_table: self.texts,
            ..profile
        };
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&whole.encode_to_vec()).map_err(ProfileError::Write)?;
        gzip.finish().map_err(ProfileError::Write)
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
