//! The shape of a component: what it imports and exports, read without compiling it.

use wasmparser::{BinaryReaderError, Parser, Payload};

/// What a component imports and exports, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The imports.
    pub imports: Vec<String>,
    /// The exports.
    pub exports: Vec<String>,
}

impl Shape {
    /// Reads a component. It is well formed as far as it was read, and not more than that.
    pub fn of(component: &[u8]) -> Result<Self, BinaryReaderError> {
        let mut shape = Self::default();
        // Components and modules stand inside others; what they import and export is their own affair.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(component) {
            match payload? {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(imports) if depth == 1 => {
                    for import in imports {
                        shape.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 1 => {
                    for export in exports {
                        shape.exports.push(export?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(shape)
    }
}
