-- Pictures that show what a style does; one of them is shown first.
CREATE TABLE style_examples (
    id UUID PRIMARY KEY,
    style UUID NOT NULL REFERENCES styles (id) ON DELETE CASCADE,
    place BIGINT NOT NULL,
    url TEXT NOT NULL,
    is_primary BOOLEAN NOT NULL
);

CREATE INDEX style_examples_style ON style_examples (style);
CREATE UNIQUE INDEX style_examples_primary ON style_examples (style) WHERE is_primary;

-- The words by which styles are found: each `tag` and each `model`.
CREATE TABLE style_words (
    style UUID NOT NULL REFERENCES styles (id) ON DELETE CASCADE,
    sort TEXT NOT NULL,
    word TEXT NOT NULL,
    PRIMARY KEY (style, sort, word)
);

CREATE INDEX styles_popular ON styles (kind, use_count DESC, created, id) WHERE public;
CREATE INDEX styles_age ON styles (kind, created, id) WHERE public;
CREATE INDEX collections_popular ON collections (use_count DESC, created, id) WHERE public;
CREATE INDEX collections_age ON collections (created, id) WHERE public;
