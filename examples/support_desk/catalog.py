"""List what shops are generated from: names, places and products."""

from typing import Final

# fmt: off

FIRST_NAMES: Final = (
    "Maria", "James", "Aisha", "Liam", "Sofia", "Noah", "Elena", "Omar", "Hannah", "Lucas", "Priya", "Ethan",
    "Chloe", "Mateo", "Ingrid", "Daniel", "Fatima", "Oscar", "Grace", "Hugo", "Leila", "Samuel", "Nora",
    "Victor", "Amara", "Felix", "Julia", "Ravi", "Clara", "Simon", "Yuki", "Peter", "Zoe", "Ivan", "Teresa",
    "Adam", "Naomi", "Diego", "Alice", "Marcus", "Freya", "Tomas", "Ruth", "Kenji", "Lena", "Paul", "Imani",
    "George", "Rosa", "Theo", "Anita", "Walter", "Mira", "Jonas", "Esther", "Bruno", "Wendy", "Carlos", "Tara",
    "Edwin", "Salma", "Philip", "Greta", "Andre",
)
LAST_NAMES: Final = (
    "Lopez", "Carter", "Khan", "Murphy", "Rossi", "Bennett", "Petrova", "Haddad", "Schmidt", "Moreau", "Sharma",
    "Brooks", "Dubois", "Alvarez", "Larsen", "Kim", "Rahman", "Nilsson", "Turner", "Weber", "Nazari", "Cohen",
    "Olsen", "Marino", "Okafor", "Fischer", "Novak", "Patel", "Jensen", "Clarke", "Tanaka", "Hughes", "Walsh",
    "Sokolov", "Ferreira", "Wright", "Goldberg", "Ramirez", "Foster", "Stone", "Lindgren", "Horvat", "Keller",
    "Mori", "Wagner", "Bauer", "Mwangi", "Harris", "Silva", "Papadakis", "Desai", "Perry", "Kovac", "Becker",
    "Osei", "Conti", "Chang", "Mendez", "Doyle", "Grant", "Farouk", "Reid", "Lange", "Baptiste",
)
MAIL_DOMAINS: Final = ("mailbox.com", "postline.net", "inboxly.com", "fastmail.example", "webpost.org", "letterbox.io")
STREETS: Final = (
    "Oak", "Birch", "Maple", "Cedar", "Willow", "Juniper", "Chestnut", "Hawthorn", "Linden", "Poplar", "Mill",
    "River", "Lake", "Station", "Church", "Market", "Garden", "Harbor", "Quarry", "Orchard", "Meadow", "Summit",
    "Abbey", "Castle",
)
STREET_KINDS: Final = ("Street", "Lane", "Avenue", "Road", "Drive", "Court")
CITIES: Final = (
    "Dover", "Salem", "Springfield", "Fairview", "Clinton", "Georgetown", "Ashland", "Burlington", "Milton",
    "Oxford", "Newport", "Hudson", "Riverside", "Lexington", "Arlington", "Kingston", "Camden", "Trenton",
    "Bristol", "Dayton",
)
BRANDS: Final = (
    "Kestrel", "Aurora", "Northwind", "Harbour", "Juno", "Basalt", "Tamarack", "Vela", "Orrin", "Solstice",
    "Fennel", "Quill", "Marlow", "Cobalt", "Heron", "Ember", "Pico", "Alder", "Lumen", "Sable", "Rook", "Tidal",
    "Verity", "Wren",
)
PRODUCTS: Final = (
    "desk lamp", "trail backpack", "espresso machine", "wool blanket", "running shoes", "water bottle",
    "rain jacket", "office chair", "cutting board", "phone case", "yoga mat", "bluetooth speaker",
    "garden hose", "coffee grinder", "picture frame", "bath towels", "travel pillow", "camping stove",
    "bike helmet", "wall clock", "tea kettle", "notebook set", "floor rug", "sunglasses", "winter gloves",
    "laptop sleeve", "mixing bowls", "board game", "pet bed", "hair dryer", "leather wallet", "baking tray",
    "reading glasses", "alarm clock", "shower curtain", "ceramic mug", "tool kit", "duffel bag",
    "candle holder", "bookshelf", "headphones", "umbrella", "linen shirt", "skillet", "tripod", "denim jacket",
    "hammock", "toaster",
)
CARRIERS: Final = ("UPS", "FedEx", "USPS", "DHL")
PAYMENT_METHODS: Final = ("visa", "mastercard", "paypal", "amex", "gift_card")
