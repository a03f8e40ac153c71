//! `password_file`: who has which password.
