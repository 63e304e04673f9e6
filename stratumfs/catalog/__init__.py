"""The catalog: what names mean, what inodes are, where bytes lie. SQL lives only here."""
