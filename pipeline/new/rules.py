"""The rules of `charlstm new`: one table of constants, which docs/data.md repeats.

Lengths are in characters of the training part. docs/benchmarks.md has the measurements.
"""

MIN_CHARS = 500  # shortest text
TRAIN_FRACTION = 0.9  # share of the training part
HIDDEN_SIZES = (64, 128, 192, 320, 512, 768, 1024, 1536)  # widths to try for a given time
MIN_CHARS_PER_WEIGHT = 3.0  # with fewer, a model would stay too unsure
MAX_WEIGHTS_PER_CHAR = 2.5  # with more, a model would memorize the text
MAX_WEIGHTS_OF_SHORT = 4.0  # MAX_WEIGHTS_PER_CHAR of a short text
SHORT_TEXT = 300_000  # longest short text
USED_TIME = 1.05  # share of the given time that training may take, in whole epochs
CHARS_SEEN = 2_000_000  # training reads at least this many characters, over all epochs
CHARS_SEEN_AGAIN = 1_000_000  # CHARS_SEEN with `--from`
MAX_EPOCHS = 60  # a text is read at most this often
READ_TWICE = 5_000_000  # longest text that is read at least twice
RARE_COUNT = 3_000  # characters are rare if they occur less often on average
RARE_EPOCHS = 4  # a text with rare characters, up to READ_TWICE, is read this often
USEFUL_EPOCHS = 20  # more epochs make the loss worse, unless the text is short
USEFUL_EPOCHS_AGAIN = 12  # USEFUL_EPOCHS with `--from`
DROPOUT_FROM = 10.0  # epochs × weights ÷ characters below which dropout is 0
DROPOUT_PER_DOUBLING = 0.1  # added each time this ratio doubles
MAX_DROPOUT = 0.4  # largest dropout
DROPOUT_AGAIN = 0.1  # dropout with `--from`
LONG_TEXT = 3_500_000  # above: `quick`'s Muon rate and weight decay × LONG_TEXT ÷ length
LEAST_SHARE = 1 / 3  # smallest share of both values that a long text keeps
MUON_AGAIN = 0.012  # Muon's rate with `--from`
MUON_AGAIN_SHORT = 0.006  # Muon's rate with `--from`, for a short text
FEW_CHARS = 1_000_000  # below: `charlstm new TEXT` recommends `--from`
BATCH_OF_LONG = (64, 64)  # batch size and context length for a given time
LONG_FOR_BATCH = 500_000  # shorter texts get the largest of BATCHES with MIN_STEPS steps
BATCHES = ((32, 64), (16, 64), (16, 32), (8, 32), (4, 32), (4, 16), (2, 16), (1, 16))  # choices
MIN_STEPS = 900  # steps that a training run should have
MAX_WARMUP_STEPS = 100  # an eighth of the steps, but at most this many
MAX_ALPHABET = 3_000  # characters; of a larger alphabet, rare characters become U+FFFD
MAX_MIN_COUNT = 5  # largest `encode.min_count`
MAX_REPLACED = 0.01  # largest share of the text that becomes U+FFFD
HUGE_TEXT = 100_000_000  # above: only a part of the validation text is measured
VALIDATED = 1_000_000  # characters measured after each epoch of a huge text
EVALUATED = 10_000_000  # characters measured by the stage `evaluate` of a huge text

# For the size of a text: up to this length, the embedding, units, layers and block.
SHAPES = (
    (20_000, (32, 96, 1, 96)),
    (100_000, (64, 192, 1, 192)),
    (300_000, (128, 256, 1, 256)),
    (3_000_000, (128, 320, 1, 320)),  # the recipe `quick`
    (30_000_000, (128, 256, 2, 320)),
    (float("inf"), (128, 512, 1, 512)),
)
# A model that already knows a text has less to learn, and forgets at a high learning rate.
AFTER_A_MODEL = {
    "train.learning_rate": 0.002,
    "train.final_learning_rate_fraction": 0.5,
    "train.weight_decay": 0.01,
}
