"""Words in the names of columns that tell their roles."""

from __future__ import annotations

import re
import unicodedata

ID = "id ids key no nr num number code uuid guid identifier ref hash pk fk index idx".split()
USER = (
    "user customer client member reader visitor buyer account person people reviewer shopper subscriber"
    " patron student viewer listener player borrower guest profile household uid usr cust consumer learner"
    " researcher visitorid kunde kunden nutzer benutzer leser mitglied ausweis cliente utilisateur usuario"
    " utente cookie"
).split()
ITEM = (
    "item product movie film book article sku asin isbn track song paper doc document recipe game stock"
    " artist album course video business restaurant venue poi place news artikel produkt produit producto"
    " prodotto listing hotel anime material iid beer wine app show series episode podcast publication ean upc"
    " gtin title content post story program merchandise goods offer good lecture talk pid mid manga joke"
    " artwork image photo ware"
).split()
TIME = (
    "time timestamp date datetime ts when day created ordered viewed rated purchased bought read watched"
    " visited played added datum zeit fecha heure unix epoch at on updated reviewed published clicked"
    " invoicedate saved submitted"
).split()
LABEL = (
    "rating ratings rate star stars score grade vote overall bewertung feedback liked like relevance"
    " preference mark sternzahl clicked click purchased label target response note"
).split()
CHOSEN = (
    "clicked click clicks purchased purchase bought liked like added cart saved shared booked ordered watched"
    " opened converted conversion"
).split()
POSITION = "position pos slot rank".split()
QUANTITY = (
    "quantity qty amount menge pieces units unit count cantidad quantite anzahl stueck stück volume".split()
)
MONEY = "price cost total revenue sum discount tax fee paid preis sales unitprice charge betrag".split()
TITLE = "title name titel headline nombre titre bezeichnung label subject caption".split()
TEXT = (
    "description desc text abstract summary overview plot content body synopsis details tagline keywords tags"
    " subtitle beschreibung about review comment notes features ingredients story blurb lead snippet"
).split()
ORDER = (
    "order invoice transaction basket session receipt cart bestellung rechnung ticket line row event pedido"
    " factura fatura commande facture ordine fattura zamowienie заказ чек 订单 订单号 注文 طلب".split()
)
OUTCOME = (
    "rating ratings votes vote votecount popularity views sales sold clicks purchases likes stars score"
    " reviews rank bestseller downloads plays cited citations count num avg average mean"
).split()
PERSONAL = (
    "name firstname lastname surname email mail phone tel telephone address street password ip ssn zip"
    " zipcode postcode postal birthdate birthday dob first last middle plz postleitzahl vorname nachname"
    " strasse telefon adresse anschrift geburtsdatum"
).split()

# Words of other scripts, which are also found inside longer names: 电影编号 is (电影, 编号).
_MORE: dict[str, tuple[list[str], str]] = {
    "id": (ID, "编号 编码 номер код رقم معرف 番号 번호"),
    "user": (
        USER,
        (
            "用户 会员 顾客 客户 读者 ユーザー 会員 顧客 사용자 пользователь клиент покупатель читатель"
            " czytelnik uzytkownik leitor lector lecteur acheteur membre socio jogador مستخدم عميل زبون قارئ"
        ),
    ),
    "item": (
        ITEM,
        (
            "电影 影片 商品 产品 物品 图书 歌曲 新闻 文章 作品 상품 товар фильм книга статья منتج فيلم خبر"
            " كتاب مقال"
        ),
    ),
    "time": (TIME, "时间 日期 日時 日付 날짜 дата время تاريخ وقت data hora"),
    "label": (
        LABEL,
        (
            "评分 评价 打分 評価 평점 оценка рейтинг تقييم nota avaliacao valoracion calificacion ocena"
            " puntuacion"
        ),
    ),
    "quantity": (QUANTITY, "数量 個数 수량 количество كمية qtde qtd quantidade quantite ilosc"),
    "money": (MONEY, "价格 金额 価格 가격 цена сумма سعر preco precio prix cena prezzo valor"),
    "title": (TITLE, "片名 名称 标题 书名 題名 제목 название عنوان اسم titulo nazwa naslov"),
    "text": (TEXT, "简介 描述 内容 概要 описание وصف descricao descripcion opis resumo"),
    "order": (ORDER, "订单 注文 주문 заказ طلب"),
}
for _words, _added in _MORE.values():
    _words.extend(_added.split())
_OTHER_SCRIPTS = sorted(
    {word for words, added in _MORE.values() for word in added.split() if not word.isascii()},
    key=len,
    reverse=True,
)


_ALL = sorted(
    {word for words in (ID, USER, ITEM, TIME, LABEL, QUANTITY, MONEY, TITLE, TEXT, ORDER) for word in words},
    key=len,
    reverse=True,
)


def tokens(name: str) -> tuple[str, ...]:
    """The words of a name: `CustomerID`, `customer_id`, `customerid:token` are all (customer, id)."""
    name = name.split(":")[0]
    name = "".join(sign for sign in unicodedata.normalize("NFKD", name) if not unicodedata.combining(sign))
    name = unicodedata.normalize("NFC", name)
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    words: list[str] = []
    for word in re.findall(r"[^\W\d_]+|\d+", spaced.lower()):
        words += _cut(word)
    return tuple(singular(word) for word in words)


def _cut(word: str) -> list[str]:
    """Cuts `movieid` and `stockcode` where both parts are known words."""
    if word in _ALL:
        return [word]
    for known in _OTHER_SCRIPTS:
        if known in word:
            return [known, *(part for part in word.split(known, 1) if part)]
    for known in _ALL:
        rest = word[len(known) :]
        if len(known) > 2 and word.startswith(known) and (rest in _ALL or singular(rest) in _ALL):
            return [known, rest]
    for ending in ("nummer", "nr"):  # of words that are not known: Ausweisnr, Vorgangsnummer
        if word.endswith(ending) and len(word) > len(ending) + 2:
            return [word.removesuffix(ending), "nr"]
    return [word]


def singular(word: str) -> str:
    """`movies` → `movie`, `categories` → `category`; good enough to compare names."""
    if len(word) > 4 and word.endswith("ies") and word not in ("movies", "series"):
        return word[:-3] + "y"
    if (
        len(word) > 3
        and word.endswith("s")
        and not word.endswith(("ss", "us", "series", "news", "goods", "status"))
    ):
        return word[:-1]
    return word


def says(words: tuple[str, ...], vocabulary: list[str]) -> float:
    """How clearly words of a name belong to a vocabulary: 1 all of them, 0.6 some, 0 none; words for ids do
    not count."""
    known = {singular(word) for word in vocabulary}
    rest = [word for word in words if word not in ID]
    if not rest:
        return 0.0
    share = sum(word in known for word in rest) / len(rest)
    return 1.0 if share == 1 else 0.6 if share else 0.0


def names_an_id(words: tuple[str, ...]) -> bool:
    """Whether a name says that it is an id."""
    return bool(set(words) & set(ID)) or bool(
        set(words) & {"sku", "asin", "isbn", "ean", "upc", "gtin", "uid", "iid"}
    )
