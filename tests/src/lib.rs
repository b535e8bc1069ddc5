//! Starts real `strewn` processes for whole-system tests.
