//! Which file is where in memory, as the kernel lists it (`/proc/self/maps`, proc_pid_maps(5)).

/// A file's code in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) offset: u64,
    pub(crate) file: String,
}

/// What is executable, in the order of the list. Lines that do not parse are passed over.
pub(crate) fn executable(list: &str) -> Vec<Mapped> {
    list.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Mapped> {
    // 55d0c0a00000-55d0c0b00000 r-xp 00042000 fe:00 1234      /usr/bin/program
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let rights = words.next()?;
    let offset = words.next()?;
    let file = words.nth(2)?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    rights.contains('x').then_some(())?;
    Some(Mapped {
        start: hex(start)?,
        end: hex(end)?,
        offset: hex(offset)?,
        file: file.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_found_and_the_rest_passed_over() {
        let list = "55d0c0a00000-55d0c0b00000 r-xp 00042000 fe:00 1234                       /usr/bin/program\n\
                    55d0c0b00000-55d0c0c00000 r--p 00142000 fe:00 1234                       /usr/bin/program\n\
                    7ffd1000-7ffd2000 r-xp 00000000 00:00 0                                  [vdso]\n\
                    7f0000000000-7f0000001000 rwxp 00000000 00:00 0\n\
                    nonsense\n\n\
                    zz-yy r-xp 00000000 00:00 0 /x\n";
        let found = executable(list);
        let files: Vec<_> = found.iter().map(|one| one.file.as_str()).collect();
        assert_eq!(files, ["/usr/bin/program", "[vdso]"]);
        assert_eq!(
            (found[0].start, found[0].end, found[0].offset),
            (0x55d0_c0a0_0000, 0x55d0_c0b0_0000, 0x42000)
        );
    }
}
