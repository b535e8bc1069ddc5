//! What precedes the pack in a bundle.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// Longest line in the header of a bundle: a reference name is at most a path long.
const LINE_LEN_MAX: u64 = 16 << 10;

/// Where the pack of a bundle begins, see gitformat-bundle(5). References and prerequisites are
/// skipped: the item `refs` is the truth, and the whole is checked at the end.
pub(super) fn skip_header(file: &mut File, object_format: &str) -> Result<u64, String> {
    let mut reader = BufReader::new(file);
    let mut offset = 0;
    let mut found_format = "sha1".to_owned();
    for number in 0_u64.. {
        let mut line = Vec::new();
        let read = (&mut reader).take(LINE_LEN_MAX).read_until(b'\n', &mut line);
        offset += read.map_err(|error| error.to_string())? as u64;
        let Some(line) = line.strip_suffix(b"\n") else {
            return Err(format!("line {} of its header does not end", number + 1));
        };
        if number == 0 {
            if !matches!(line, b"# v2 git bundle" | b"# v3 git bundle") {
                return Err("not a Git bundle of version 2 or 3".into());
            }
        } else if line.is_empty() {
            break;
        } else if let Some(capability) = line.strip_prefix(b"@") {
            match capability.strip_prefix(b"object-format=") {
                Some(name) => found_format = String::from_utf8_lossy(name).into_owned(),
                None => return Err(format!("needs {:?}", String::from_utf8_lossy(capability))),
            }
        }
    }
    if found_format == object_format {
        Ok(offset)
    } else {
        Err(format!("its objects are {found_format}, the repository's {object_format}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Seek, Write};

    fn header(bytes: &[u8]) -> Result<u64, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        skip_header(&mut file, "sha1")
    }

    #[test]
    fn bundle_headers_are_read_as_documented() {
        assert_eq!(header(b"# v2 git bundle\n-00 words\n00 refs/a\n\nPACK"), Ok(37));
        assert_eq!(header(b"# v3 git bundle\n@object-format=sha1\n\nPACK"), Ok(37));
        let filter = header(b"# v3 git bundle\n@filter=blob:none\n\nPACK");
        assert!(filter.unwrap_err().contains("filter"));
        let other = header(b"# v3 git bundle\n@object-format=sha256\n\n");
        assert!(other.unwrap_err().contains("sha256"));
        assert!(header(b"# v4 git bundle\n\n").is_err());
        assert!(header(b"# v2 git bundle\n00 refs/a").is_err());
        assert!(header(&vec![b'#'; 100_000]).is_err());
    }

    proptest! {
        #[test]
        fn hostile_headers_never_panic(bytes: Vec<u8>) {
            let _ = header(&bytes);
            let _ = header(&[b"# v3 git bundle\n".as_slice(), &bytes].concat());
        }
    }
}
