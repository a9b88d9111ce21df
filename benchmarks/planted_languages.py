"""Planted catalogues in Portuguese, Japanese and Arabic: users keep to two topics, and an item's text tells
its topic by words that come in several forms."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

TEMPLATES = {
    "Portuguese": ("{0} e {1} para toda a família", "novo {0} com {1}, entrega rápida", "{0}, {1} e mais"),
    "Japanese": ("{0}と{1}のセット、ご家族でどうぞ", "新しい{0}、{1}付きでお届け", "人気の{0}や{1}など"),
    "Arabic": ("{0} و{1} لكل العائلة", "جديد: {0} مع {1} وتوصيل سريع", "{0} و{1} والمزيد"),
}
# Words of a topic; forms of one word stand side by side.
TOPICS = {
    "Portuguese": [
        "chaleira chaleiras bule bules xícara xícaras chá chás coador coadores pires porcelana",
        "bota botas mochila mochilas caminhada caminhadas trilha trilhas barraca barracas acampamento cantil",
        "romance romances livro livros escritora escritoras conto contos poesia poesias leitura leitor",
        "furadeira furadeiras parafuso parafusos martelo martelos serra serras ferramenta ferramentas chave",
        "bicicleta bicicletas pedal pedais capacete capacetes ciclista ciclistas pneu pneus corrente guidão",
        "violão violões corda cordas partitura partituras músico músicos palheta palhetas afinador acordes",
    ],
    "Japanese": [
        "急須 湯呑み 茶葉 緑茶 茶器 抹茶 茶筅 ティーポット 紅茶 ティーカップ 茶こし 湯冷まし",
        "登山靴 登山リュック テント 寝袋 山岳地図 キャンプ用品 キャンプ椅子 水筒 防寒着 雨具 登山杖 ランタン",
        "小説 短編小説 文庫本 作家 詩集 物語 絵本 読書灯 長編小説 文学全集 随筆集 本棚",
        "電動ドリル ドリル刃 金づち 工具箱 ねじ回し のこぎり 電動のこぎり ねじ ペンチ 工具セット 釘 作業台",
        "自転車 自転車用ヘルメット ペダル サドル タイヤ 自転車ライト チェーン 空気入れ 変速機 サイクル手袋",
        "ギター ギター弦 楽譜 ピアノ 電子ピアノ 鍵盤 弦楽器 譜面台 楽器ケース 調律器 ピック バイオリン",
    ],
    "Arabic": [
        "إبريق أباريق شاي الشاي فنجان فناجين كوب أكواب مصفاة خزف صحن صحون",
        "حذاء أحذية حقيبة حقائب خيمة خيام تخييم للتخييم جبل جبال قارورة مصباح",
        "رواية روايات كتاب كتب قصة قصص كاتبة كاتب شعر أشعار قراءة مكتبة",
        "مثقاب مثاقب مطرقة مطارق منشار مناشير برغي براغي مفك مفكات عدة أدوات",
        "دراجة دراجات خوذة خوذات دواسة دواسات إطار إطارات مقود سلسلة سلاسل مضخة",
        "غيتار غيتارات وتر أوتار نوتة نوتات موسيقى موسيقي بيانو كمان كمنجات عود",
    ],
}


@dataclasses.dataclass(frozen=True)
class Planted:
    """A catalogue and who chose what.

    Attributes:
        items: `item`, `title`, one row an item.
        choices: `user`, `item`, `time`.
        topics: the topic of each item, `[items]`.
        words: the words of each topic.
    """

    items: pd.DataFrame
    choices: pd.DataFrame
    topics: np.ndarray
    words: list[list[str]]


def planted(language: str, items: int = 300, users: int = 120, choices: int = 14, seed: int = 1) -> Planted:
    """Draws a catalogue and its users.

    Args:
        language: one of `TOPICS`.
        items, users, choices: how many, the last for each user.
        seed: of all draws.
    """
    rng = np.random.default_rng(seed)
    words = [line.split() for line in TOPICS[language]]
    topics = rng.integers(0, len(words), items)
    titles = []
    for topic in topics:
        template = TEMPLATES[language][rng.integers(len(TEMPLATES[language]))]
        titles.append(template.format(*rng.choice(words[topic], 2, replace=False)))
    rows = []
    for user in range(users):
        liked = np.isin(topics, rng.choice(len(words), 2, replace=False))
        weights = np.where(liked, 1.0, 0.05)
        chosen = rng.choice(items, min(choices, items // 2), replace=False, p=weights / weights.sum())
        rows += [
            (f"u{user}", f"i{item}", 1_700_000_000 + 3600 * (user + users * step))
            for step, item in enumerate(chosen)
        ]
    catalogue = pd.DataFrame({"item": [f"i{n}" for n in range(items)], "title": titles})
    return Planted(catalogue, pd.DataFrame(rows, columns=["user", "item", "time"]), topics, words)
