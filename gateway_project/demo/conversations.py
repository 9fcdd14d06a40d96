"""Harmless questions and answers, as captured ones look."""

CONVERSATIONS: tuple[tuple[str, str], ...] = (
    (
        "system: You help the people of Acme. Answer in short sentences.\n\nuser: How do I claim travel costs for last month?",
        "Open the form “Travel” on the intranet and attach the receipts. Claims of last month are paid with the next salary "
        "if they arrive before the tenth.",
    ),
    (
        "user: Translate into German: “The meeting is moved to Thursday at half past nine.”",
        "„Die Besprechung wird auf Donnerstag um halb zehn verschoben.“",
    ),
    (
        "user: Which of these three papers measures sleep directly?\n\n[1] A diary study …\n[2] Polysomnography of 40 adults …"
        "\n[3] A survey …",
        "Only [2]: polysomnography measures sleep itself. [1] and [3] rely on what people report.",
    ),
    (
        "user: Write a polite reminder for an invoice that is two weeks late.",
        "Dear Ms Brandt,\n\nour invoice 2026-1187 was due two weeks ago. Perhaps it slipped through; could you tell us when we may "
        "expect the payment?\n\nKind regards",
    ),
    (
        "user: What does HTTP status 425 mean?",
        "425 Too Early: the server does not want to process a request that might be replayed, because it arrived as TLS early "
        "data. Send it again after the handshake.",
    ),
    (
        "user: Give me five titles for a talk about soil that children like.",
        "1. The Secret Life Under Your Shoes\n2. Worms at Work\n3. What Mud Knows\n4. A Spoonful of Billions\n5. Dirt Is Not Dirty",
    ),
)
