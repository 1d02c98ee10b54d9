//! Where things stand on the pages of the shop systems that most shops are made with, and how to tell which it is.

use std::sync::LazyLock;

use scraper::Selector;

/// Where things stand on a shop's pages. What is `None` is guessed.
#[derive(Clone, Debug, Default)]
pub struct PageRules {
    /// The box around one product of a listing.
    pub product_container: Option<Selector>,
    pub product_link: Option<Selector>,
    pub product_image: Option<Selector>,
    pub price: Option<Selector>,
    pub article_number: Option<Selector>,
    pub product_name: Option<Selector>,
    pub description: Option<Selector>,
    pub next_page_button: Option<Selector>,
    pub pagination_links: Option<Selector>,
}

/// A shop system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    Shopify,
    WooCommerce,
    Magento,
    Shopware,
}

/// Of a page, bytes that are looked at for a system's marks.
const LOOKED_AT: usize = 300_000;

impl Preset {
    const ALL: [Preset; 4] = [Preset::Shopify, Preset::WooCommerce, Preset::Magento, Preset::Shopware];

    /// The system that left most marks in a page.
    pub fn of_page(html: &str) -> Option<Preset> {
        let html = &html[..html.floor_char_boundary(LOOKED_AT.min(html.len()))];
        let marks = |preset: &Preset| preset.marks().iter().filter(|mark| html.contains(**mark)).count();
        // The first of those that are equal.
        Preset::ALL.into_iter().rev().max_by_key(marks).filter(|preset| marks(preset) > 0)
    }

    /// As people call it, in lower case.
    pub fn word(self) -> &'static str {
        match self {
            Preset::Shopify => "shopify",
            Preset::WooCommerce => "woocommerce",
            Preset::Magento => "magento",
            Preset::Shopware => "shopware",
        }
    }

    fn marks(self) -> &'static [&'static str] {
        match self {
            Preset::Shopify => &["cdn.shopify.com", "Shopify.theme", "shopify-section", "/cdn/shop/"],
            Preset::WooCommerce => {
                &["woocommerce", "WooCommerce", "wc-block-grid", "/wp-content/plugins/woocommerce"]
            }
            Preset::Magento => &["data-mage-init", "text/x-magento-init", "Magento_", "product-item-info"],
            Preset::Shopware => &[
                "shopware",
                "Shopware",
                "/bundles/storefront",
                "cms-element-product-listing",
                "product-box box-",
            ],
        }
    }

    /// The selectors' texts, in the order of [`PageRules`]' fields.
    pub fn selectors(self) -> [&'static str; 9] {
        match self {
            Preset::Shopify => [
                ".product-card, .card-wrapper, .grid-product, .product-item, .product-grid-item",
                "a[href*='/products/']",
                ".product__media img, .product-single__photo img, .product__image img",
                ".price__regular .price-item--regular, .product__price, .product-single__price, .price-item",
                ".product__sku, .product-single__sku, .variant-sku, .sku",
                ".product__title, .product-single__title, h1",
                ".product__description, .product-single__description",
                ".pagination a[rel=next], .pagination .next a, a.pagination__item--next",
                ".pagination a, a.pagination__item",
            ],
            Preset::WooCommerce => [
                "li.product, .products .product, .wc-block-grid__product",
                "a.woocommerce-LoopProduct-link, a.woocommerce-loop-product__link, .wc-block-grid__product-link",
                ".woocommerce-product-gallery__image img, .woocommerce-product-gallery img",
                ".summary .price ins .amount, .summary p.price .amount, .summary .price, p.price",
                ".sku",
                ".product_title",
                ".woocommerce-product-details__short-description, #tab-description",
                "a.next.page-numbers",
                ".woocommerce-pagination a",
            ],
            Preset::Magento => [
                "li.product-item, .product-item-info",
                "a.product-item-link, a.product-item-photo",
                ".gallery-placeholder__image, .fotorama__img, .product.media img",
                ".product-info-price [data-price-type=finalPrice] .price, .product-info-price .price",
                ".product.attribute.sku .value",
                ".page-title",
                ".product.attribute.description .value, .product.attribute.overview .value",
                ".pages a.next, a.action.next",
                ".pages a.page",
            ],
            Preset::Shopware => [
                ".product-box, .product--box",
                "a.product-name, a.product-image-link, a.product--title, a.product--image",
                ".gallery-slider-image, .product-detail-media img, .image--box img",
                ".product-detail-price, .product--price .price--content",
                ".product-detail-ordernumber, .entry--sku .entry--content",
                ".product-detail-name, .product--title",
                ".product-detail-description-text, .product--description",
                ".pagination .page-next a, a.paging--next",
                ".pagination a, .paging--link",
            ],
        }
    }

    /// The same, ready.
    pub fn rules(self) -> &'static PageRules {
        static RULES: LazyLock<[PageRules; 4]> = LazyLock::new(|| Preset::ALL.map(compiled));
        &RULES[self as usize]
    }
}

fn compiled(preset: Preset) -> PageRules {
    let [container, link, image, price, number, name, description, next, pages] =
        preset.selectors().map(|css| Selector::parse(css).ok());
    PageRules {
        product_container: container,
        product_link: link,
        product_image: image,
        price,
        article_number: number,
        product_name: name,
        description,
        next_page_button: next,
        pagination_links: pages,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_selector_of_every_system_can_be_used() {
        for preset in Preset::ALL {
            for css in preset.selectors() {
                assert!(Selector::parse(css).is_ok(), "{preset:?}: {css}");
            }
            assert!(preset.rules().pagination_links.is_some(), "{preset:?}");
        }
    }

    #[test]
    fn a_system_is_known_by_its_marks() {
        for (html, preset) in [
            ("<link href='//cdn.shopify.com/s/x.css'>", Some(Preset::Shopify)),
            ("<body class='woocommerce woocommerce-page'>", Some(Preset::WooCommerce)),
            ("<script type='text/x-magento-init'>{}</script>", Some(Preset::Magento)),
            (
                "<link href=/bundles/storefront/a.css><div class='product-box box-standard'>",
                Some(Preset::Shopware),
            ),
            ("<p>A shop of its own making</p>", None),
        ] {
            assert_eq!(Preset::of_page(html), preset, "{html}");
        }
    }
}
