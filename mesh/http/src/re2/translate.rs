//! From RE2's syntax to that of the crate `regex`.

/// The largest count of a repetition, and of repetitions within one another.
const MAX_REPEAT: u32 = 1000;

/// The expression in the other syntax, with all groups nameless.
///
/// # Errors
/// Why RE2 refuses it. What both refuse is left to the crate `regex`.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let mut translator = Translator {
        rest: pattern,
        out: String::with_capacity(pattern.len() + 16),
        groups: vec![Group::default()],
        last: Last::Nothing,
    };
    while let Some(character) = translator.next() {
        translator.one(character)?;
    }
    Ok(translator.out)
}

/// What stands before the next character.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Nothing that could be repeated.
    Nothing,
    /// Something that can be repeated, with the largest product of counts within it.
    Atom(u32),
    /// A repetition, which cannot be repeated.
    Repetition,
}

/// An open group: the largest product of counts in it so far.
#[derive(Default)]
struct Group {
    repeats: u32,
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
    groups: Vec<Group>,
    last: Last,
}

impl Translator<'_> {
    fn next(&mut self) -> Option<char> {
        let character = self.rest.chars().next()?;
        self.rest = &self.rest[character.len_utf8()..];
        Some(character)
    }

    fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn one(&mut self, character: char) -> Result<(), String> {
        match character {
            '\\' => self.escape()?,
            '[' => {
                let class = self.class()?;
                self.atom(&class);
            }
            '(' => self.open()?,
            ')' => {
                if self.groups.len() == 1 {
                    return Err("unexpected )".to_owned());
                }
                let inner = self.groups.pop().unwrap_or_default().repeats;
                self.out.push(')');
                self.last = Last::Atom(inner.max(1));
                self.note(inner);
            }
            '|' => {
                self.out.push('|');
                self.last = Last::Nothing;
            }
            '*' | '+' | '?' => self.repeat(&character.to_string(), 1)?,
            '{' => match self.counts() {
                Some((least, most)) => {
                    if least > MAX_REPEAT || most.is_some_and(|most| most > MAX_REPEAT || most < least) {
                        return Err("invalid repetition size".to_owned());
                    }
                    let text = match most {
                        Some(most) if most == least => format!("{{{least}}}"),
                        Some(most) => format!("{{{least},{most}}}"),
                        None => format!("{{{least},}}"),
                    };
                    self.repeat(&text, most.unwrap_or(least))?;
                }
                None => self.atom(r"\{"),
            },
            '.' | '^' | '$' => self.atom(&character.to_string()),
            other => self.atom(&literal(other)),
        }
        Ok(())
    }

    fn atom(&mut self, text: &str) {
        self.out.push_str(text);
        self.last = Last::Atom(1);
    }

    fn note(&mut self, repeats: u32) {
        if let Some(group) = self.groups.last_mut() {
            group.repeats = group.repeats.max(repeats);
        }
    }

    fn repeat(&mut self, text: &str, count: u32) -> Result<(), String> {
        match self.last {
            Last::Nothing => return Err(format!("missing argument to repetition operator: {text}")),
            Last::Repetition => return Err(format!("bad repetition operator: {text}")),
            Last::Atom(inner) => {
                let product = inner.saturating_mul(count.max(1));
                if product > MAX_REPEAT {
                    return Err("repetitions within repetitions are too many".to_owned());
                }
                self.note(product);
            }
        }
        self.out.push_str(text);
        if self.eat("?") {
            self.out.push('?');
        }
        self.last = Last::Repetition;
        Ok(())
    }

    /// `n}`, `n,}` or `n,m}` behind an opening brace, without leading zeros; otherwise nothing is taken, and the brace is a character.
    fn counts(&mut self) -> Option<(u32, Option<u32>)> {
        let (inside, rest) = self.rest.split_once('}')?;
        let number = |text: &str| {
            let fine = !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_digit())
                && (text == "0" || !text.starts_with('0'));
            fine.then(|| text.parse().unwrap_or(u32::MAX))
        };
        let counts = match inside.split_once(',') {
            None => number(inside).map(|count| (count, Some(count)))?,
            Some((least, "")) => (number(least)?, None),
            Some((least, most)) => (number(least)?, Some(number(most)?)),
        };
        self.rest = rest;
        Some(counts)
    }

    fn open(&mut self) -> Result<(), String> {
        self.last = Last::Nothing;
        if !self.eat("?") {
            self.groups.push(Group::default());
            self.out.push('(');
            return Ok(());
        }
        if self.eat("P<") || self.eat("<") {
            let (name, rest) = self.rest.split_once('>').ok_or("invalid named capture group")?;
            let word = |character: char| character.is_alphanumeric() || character == '_';
            if name.is_empty() || !name.chars().all(word) {
                return Err(format!("invalid named capture group: {name}"));
            }
            self.rest = rest;
            self.groups.push(Group::default());
            self.out.push('(');
            return Ok(());
        }
        let end = self.rest.find([')', ':']).ok_or("missing )")?;
        let flags = &self.rest[..end];
        let group = self.rest[end..].starts_with(':');
        let (on, off) = flags.split_once('-').unwrap_or((flags, "i"));
        if !(on.chars().chain(off.chars())).all(|flag| "imsU".contains(flag))
            || off.is_empty()
            || (flags.is_empty() && !group)
        {
            return Err(format!("invalid group: (?{flags}"));
        }
        self.out.push_str("(?");
        self.out.push_str(flags);
        self.out.push(if group { ':' } else { ')' });
        self.rest = &self.rest[end + 1..];
        if group {
            self.groups.push(Group::default());
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        if self.eat("Q") {
            let (quoted, rest) = match self.rest.split_once(r"\E") {
                Some(split) => split,
                None => (self.rest, ""),
            };
            self.rest = rest;
            for character in quoted.chars() {
                self.atom(&literal(character));
            }
            return Ok(());
        }
        for (escape, text) in [
            ("b", r"(?-u:\b)"),
            ("B", r"(?-u:\B)"),
            ("A", r"\A"),
            ("z", r"\z"),
            ("C", r"(?s-u:.)"),
        ] {
            if self.eat(escape) {
                self.atom(text);
                return Ok(());
            }
        }
        if let Some(set) = self.set()? {
            self.atom(&set);
            return Ok(());
        }
        let character = self.character()?;
        self.atom(&literal(character));
        Ok(())
    }

    /// A set of characters behind a backslash, in a form that can stand within brackets too.
    fn set(&mut self) -> Result<Option<String>, String> {
        for (escape, text) in [
            ("d", "[0-9]"),
            ("D", "[^0-9]"),
            ("w", "[0-9A-Za-z_]"),
            ("W", "[^0-9A-Za-z_]"),
            ("s", r"[\t\n\x0C\r\x20]"),
            ("S", r"[^\t\n\x0C\r\x20]"),
        ] {
            if self.eat(escape) {
                return Ok(Some(text.to_owned()));
            }
        }
        let mut negative = if self.eat("p") {
            false
        } else if self.eat("P") {
            true
        } else {
            return Ok(None);
        };
        let name = if self.eat("{") {
            let (name, rest) = self.rest.split_once('}').ok_or("invalid character class range")?;
            self.rest = rest;
            match name.strip_prefix('^') {
                Some(name) => {
                    negative = !negative;
                    name.to_owned()
                }
                None => name.to_owned(),
            }
        } else {
            self.next().ok_or("invalid character class range")?.to_string()
        };
        property(&name, negative)
            .map(Some)
            .ok_or_else(|| format!("no Unicode category or script {name}"))
    }

    /// One character behind a backslash.
    fn character(&mut self) -> Result<char, String> {
        let character = self.next().ok_or("trailing \\")?;
        let bad = || format!("invalid escape sequence: \\{character}");
        match character {
            'a' => Ok('\x07'),
            'f' => Ok('\x0C'),
            't' => Ok('\t'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            'v' => Ok('\x0B'),
            '0'..='7' => {
                let octal = |text: &str| text.starts_with(|next: char| ('0'..='7').contains(&next));
                if character != '0' && !octal(self.rest) {
                    return Err(bad());
                }
                let mut code = u32::from(character) - u32::from('0');
                for _ in 0..2 {
                    if octal(self.rest) {
                        code = code * 8 + self.next().and_then(|next| next.to_digit(8)).unwrap_or_default();
                    }
                }
                char::from_u32(code).ok_or_else(bad)
            }
            'x' => {
                let digits = if self.eat("{") {
                    let (digits, rest) = self.rest.split_once('}').ok_or_else(bad)?;
                    self.rest = rest;
                    digits
                } else {
                    let digits = self.rest.get(..2).ok_or_else(bad)?;
                    self.rest = &self.rest[2..];
                    digits
                };
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(bad());
                }
                let code = u32::from_str_radix(digits, 16).map_err(|_| bad())?;
                char::from_u32(code).ok_or_else(bad)
            }
            other if other.is_ascii() && !other.is_ascii_alphanumeric() => Ok(other),
            _ => Err(bad()),
        }
    }

    /// What is between brackets; the opening one is taken already.
    fn class(&mut self) -> Result<String, String> {
        let mut out = String::from(if self.eat("^") { "[^" } else { "[" });
        let mut first = true;
        loop {
            if self.rest.is_empty() {
                return Err("missing ]".to_owned());
            }
            if self.rest.starts_with(']') && !first {
                self.rest = &self.rest[1..];
                out.push(']');
                return Ok(out);
            }
            first = false;
            if let Some(named) = self.named()? {
                out.push_str(&named);
                continue;
            }
            if let Some(after) = self.rest.strip_prefix('\\') {
                let before = std::mem::replace(&mut self.rest, after);
                if let Some(set) = self.set()? {
                    out.push_str(&set);
                    continue;
                }
                self.rest = before;
            }
            let low = self.member()?;
            if self.rest.starts_with('-') && !self.rest[1..].starts_with(']') && self.rest.len() > 1 {
                self.rest = &self.rest[1..];
                let high = self.member()?;
                if high < low {
                    return Err(format!("invalid character class range: {low}-{high}"));
                }
                out.push_str(&format!("\\x{{{:X}}}-\\x{{{:X}}}", u32::from(low), u32::from(high)));
            } else {
                out.push_str(&format!("\\x{{{:X}}}", u32::from(low)));
            }
        }
    }

    fn member(&mut self) -> Result<char, String> {
        match self.next() {
            Some('\\') => self.character(),
            Some(character) => Ok(character),
            None => Err("missing ]".to_owned()),
        }
    }

    /// `[:name:]` within brackets.
    fn named(&mut self) -> Result<Option<String>, String> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
            "word", "xdigit",
        ];
        let Some((name, rest)) = self.rest.strip_prefix("[:").and_then(|inside| inside.split_once(":]")) else {
            return Ok(None);
        };
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(format!("invalid character class range: [:{name}:]"));
        }
        self.rest = rest;
        Ok(Some(format!("[:{name}:]")))
    }
}

/// A character that stands for itself.
fn literal(character: char) -> String {
    match character {
        '<' | '>' => character.to_string(),
        punctuation if punctuation.is_ascii_punctuation() => format!("\\{punctuation}"),
        control if control.is_ascii_control() || control == ' ' => format!("\\x{{{:X}}}", u32::from(control)),
        other => other.to_string(),
    }
}

/// A Unicode category by its short name, or a script by its full one: RE2 knows no other names.
fn property(name: &str, negative: bool) -> Option<String> {
    const CATEGORIES: [&str; 37] = [
        "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No",
        "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs", "Any",
    ];
    // Scripts with a full name as long as the abbreviations, which are refused.
    const SHORT_SCRIPTS: [&str; 7] = ["Ahom", "Cham", "Kawi", "Lisu", "Modi", "Thai", "Toto"];
    let escape = if negative { 'P' } else { 'p' };
    if CATEGORIES.contains(&name) {
        return Some(format!("\\{escape}{{{name}}}"));
    }
    let script = name.starts_with(|first: char| first.is_ascii_uppercase())
        && name
            .chars()
            .all(|character| character.is_ascii_alphabetic() || character == '_')
        && (name.len() != 4 || SHORT_SCRIPTS.contains(&name));
    script.then(|| format!("\\{escape}{{sc={name}}}"))
}
