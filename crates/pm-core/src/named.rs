//! Enums that list their values.

/// Declares an enum without data, with the list of its values and, if they are given, the name of each.
macro_rules! named {
    ($(#[$attribute:meta])* pub enum $enum:ident { $($(#[$of_value:meta])* $value:ident,)* }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $enum {
            $($(#[$of_value])* $value,)*
        }

        impl $enum {
            /// All values, in their order.
            pub const ALL: [$enum; [$($enum::$value),*].len()] = [$($enum::$value),*];
        }
    };
    ($(#[$attribute:meta])* pub enum $enum:ident { $($(#[$of_value:meta])* $value:ident = $name:literal,)* }) => {
        named! { $(#[$attribute])* pub enum $enum { $($(#[$of_value])* $value,)* } }

        impl $enum {
            /// Returns the name for programs, which never changes:
            #[doc = concat!($("`", $name, "` "),*)]
            pub fn name(self) -> &'static str {
                [$($name),*][self as usize]
            }
        }
    };
}
pub(crate) use named;
