"""Clone a support desk's routing from twenty labels, and spend the next ones where they teach most."""
