//! How admin commands show things: JSON for scripts, aligned text for people.

use serde_json::Value;

use super::Office;

impl Office {
    /// Shows one thing.
    pub(super) fn show(&self, shown: &Value) {
        if self.json {
            println!("{shown}");
            return;
        }
        for (name, value) in shown.as_object().into_iter().flatten() {
            println!("{name:<12} {}", text(value));
        }
    }

    /// Shows many of a kind; as text only these members of each.
    pub(super) fn list(&self, members: &[&str], things: Vec<Value>) {
        if self.json {
            println!("{}", Value::Array(things));
            return;
        }
        print!("{}", table(members, &things));
    }
}

/// Lines with a head, each column as wide as what is in it.
pub(super) fn table(members: &[&str], things: &[Value]) -> String {
    let head = members.iter().map(|member| (*member).to_owned());
    let mut rows: Vec<Vec<String>> = vec![head.collect()];
    for thing in things {
        let cells = members.iter().map(|member| text(&thing[*member]));
        rows.push(cells.collect());
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..members.len()).map(width).collect();
    let mut lines = String::new();
    for row in &rows {
        let padded = row.iter().zip(&widths);
        let cells: Vec<String> = padded
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        lines.push_str(cells.join("  ").trim_end());
        lines.push('\n');
    }
    lines
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(text_of_item).collect();
            items.join(", ")
        }
        other => other.to_string(),
    }
}

fn text_of_item(item: &Value) -> String {
    item.as_str()
        .map_or_else(|| item.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let things = [
            json!({ "id": 1, "name": "Ä long name", "paused": false }),
            json!({ "id": 12, "name": "b", "paused": true, "more": 1 }),
        ];
        let wanted = "id  name         paused\n1   Ä long name  no\n12  b            yes\n";
        assert_eq!(table(&["id", "name", "paused"], &things), wanted);
    }
}
