//! Rows as text: a table of Markdown whose columns are straight.

/// Writes a table. A row may be shorter than the head.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| cell(row, column).chars().count());
        let title = head[column].chars().count();
        cells.chain([title, 3]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: Vec<String>| {
        for (column, cell) in cells.iter().enumerate() {
            let width = widths[column];
            // Names to the left, numbers to the right.
            text += &match column {
                0 => format!("| {cell:<width$} "),
                _ => format!("| {cell:>width$} "),
            };
        }
        text += "|\n";
    };
    line(head.iter().map(|title| title.to_string()).collect());
    let rule = |(column, width): (usize, &usize)| match column {
        0 => "-".repeat(*width),
        _ => "-".repeat(width - 1) + ":",
    };
    line(widths.iter().enumerate().map(rule).collect());
    for row in rows {
        line((0..head.len()).map(|column| cell(row, column)).collect());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_straight() {
        let rows = [
            vec!["floor".to_owned(), "1.50".to_owned(), "µ".to_owned()],
            vec!["x".to_owned()],
        ];
        assert_eq!(
            table(&["who", "CPU", "c"], &rows),
            "| who   |  CPU |   c |\n\
             | ----- | ---: | --: |\n\
             | floor | 1.50 |   µ |\n\
             | x     |      |     |\n"
        );
    }
}
