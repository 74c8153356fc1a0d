//! Stories and tables of all verbs.
